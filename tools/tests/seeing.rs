//! Pictures and pages say what the partitions say, stay small whatever the day was, and are safe to open.
//!
//! What they look like, a person has to judge; that they are well-formed, whole, bounded, and show the refinery's own
//! numbers, is judged here.

mod support;

use chronicle::storage::root::TimeNs;
use roxmltree::{Document, Node, ParsingOptions};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::*;

const SPOT: &str = "binance-spot";
const DATE: &str = "2024-08-08";

/// A root with this repository's recording in it, refined.
fn small_root() -> tempfile::TempDir {
    let dir = scratch();
    import(&dir.path().join("root"), SPOT, &[excerpt()]).ok();
    refine(&dir.path().join("root"), &["--seal"]).ok();
    dir
}

fn quality(root: &Path, more: &[&str]) -> Ran {
    run(Command::new(BINARY).arg("quality").arg(root).args(more).stdin(Stdio::null()))
}

fn plot(root: &Path, symbol: &str, output: &Path, more: &[&str]) -> Ran {
    let output = output.to_str().expect("text");
    about("plot", root, SPOT, symbol, &[&["--date", DATE, "-o", output, "--json"], more].concat())
}

/// The page as XML, which it is too.
fn parse(text: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).unwrap_or_else(|error| panic!("not well-formed: {error}"))
}

fn named<'a>(document: &'a Document<'_>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.tag_name().name() == name)
}

/// Every number that both have is the same in `quality --json` and in `refine --json`.
#[track_caller]
fn agrees_with_refine(root: &Path) -> Value {
    let refined = refine(root, &[]).ok().json();
    let found = quality(root, &["--json"]).ok().json();
    let days = found["days"].as_array().expect("days");
    let rows = refined["partitions"].as_array().expect("partitions");
    assert!(!rows.is_empty());
    for row in rows {
        let is_its = |day: &&Value| ["venue", "symbol", "date"].iter().all(|key| day[key] == row[key]);
        let day = days.iter().find(is_its).unwrap_or_else(|| panic!("no day for {row}"));
        let stream = row["stream"].as_str().expect("a stream");
        for kind in ["events", "applied", "dropped_before_snapshot", "duplicates", "not_applied", "snapshots"] {
            let counted = day["counts"][format!("{stream}.{kind}")].as_u64().unwrap_or(0);
            assert_eq!(Some(counted), row[kind].as_u64(), "{kind} of {row}");
        }
        if stream == "book" {
            let own: Vec<_> =
                day["gaps"].as_array().expect("gaps").iter().filter(|gap| gap["carried"] == false).collect();
            let gaps = row["gaps"].as_array().expect("gaps");
            assert_eq!(own.len(), gaps.len(), "{row}");
            for (own, gap) in own.iter().zip(gaps) {
                for (key, value) in gap.as_object().expect("a gap") {
                    assert_eq!(own[key], *value, "{key} of {gap}");
                }
            }
        }
    }
    let sum = |key: &str| rows.iter().map(|row| row[key].as_u64().expect("a number")).sum::<u64>();
    for key in ["events", "duplicates", "not_applied", "late"] {
        assert_eq!(found["totals"][key].as_u64(), Some(sum(key)), "{key}");
    }
    let gaps: usize = rows.iter().map(|row| row["gaps"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(found["totals"]["gaps"].as_u64(), Some(gaps as u64));
    for key in ["waiting", "absurd_time", "overdue"] {
        let venues = found["venues"].as_array().expect("venues");
        assert_eq!(
            venues.iter().filter_map(|venue| venue[key].as_u64()).sum::<u64>(),
            refined[key].as_u64().expect("a number")
        );
    }
    // Records of the venue per bin are all of them, once each.
    for day in days {
        for (stream, bins) in day["rates"]["records"].as_object().into_iter().flatten() {
            let sum: u64 = bins.as_array().expect("bins").iter().filter_map(Value::as_u64).sum();
            let counted = day["counts"][format!("{stream}.events")].as_u64().unwrap_or(0);
            assert_eq!(sum, counted, "rates of {stream} in {} {}", day["symbol"], day["date"]);
        }
    }
    found
}

#[test]
fn quality_has_the_refinerys_numbers() {
    let dir = small_root();
    let root = dir.path().join("root");
    let found = agrees_with_refine(&root);
    assert_eq!(found["totals"]["damaged"], 0);
    assert_eq!(found["totals"]["sealed"], found["totals"]["days"]);
    // In the archive it is as it was.
    run(Command::new(BINARY).args(["tier", "run", "--once", "--now", "2024-08-12", "--root"]).arg(&root)).ok();
    let cold = quality(&root, &["--json"]).ok().json();
    let streams = |found: &Value| found["days"][0]["streams"].as_array().expect("streams").len();
    assert_eq!(streams(&cold), streams(&found));
    for key in ["book", "rates", "gaps", "counts"] {
        assert_eq!(cold["days"][0][key], found["days"][0][key], "{key}");
    }
    assert!(cold["totals"]["bytes"]["cold"].as_u64() < found["totals"]["bytes"]["warm"].as_u64());
    // Without reading, there is what needs none.
    let quick = quality(&root, &["--quick", "--json"]).ok().json();
    assert_eq!((&quick["days"][0]["book"], &quick["days"][0]["counts"]), (&Value::Null, &found["days"][0]["counts"]));
}

#[test]
fn damaged_recordings_are_told_as_they_were_refined() {
    let Some(data) = recordings() else { return };
    for (file, venue) in [
        ("gap_resync_spot.gz", "binance-spot"),
        ("gap_usdm.gz", "binance-usdm"),
        ("late_coinm.gz", "binance-coinm"),
        ("duplicate_usdm.gz", "binance-usdm"),
    ] {
        let dir = scratch();
        let root = dir.path().join("root");
        import(&root, venue, &[data.join("damaged").join(file)]).ok();
        // Sealed, so that nothing waits: what waits is in the refinery's report and in no partition yet.
        refine(&root, &["--seal"]).ok();
        let found = agrees_with_refine(&root);
        if file.starts_with("late") {
            assert_eq!(found["totals"]["late"], 276, "{file}");
        }
        if file.starts_with("gap_resync") {
            // `book` says the same of the moments around the stretch.
            let stretch = &found["days"][0]["book"]["invalid"][0];
            let at = |key: &str, less: u64| {
                let time: TimeNs = stretch[key].as_str().and_then(|text| text.parse().ok()).expect("a time");
                TimeNs(time.0 - less).to_string()
            };
            let book = |time: &str| about("book", &root, venue, "btcusdt", &["--at", time, "--json"]);
            book(&at("first", 0)).ok();
            book(&at("last", 1)).exits(1);
            book(&at("last", 0)).ok();
            // And the picture shades as much.
            let drawn = plot(&root, "btcusdt", &dir.path().join("day.svg"), &[]).ok().json();
            assert_eq!(drawn["invalid_ns"], found["days"][0]["book"]["invalid_ns"]);
            assert_eq!(drawn["gaps"], 1);
            let text = fs::read_to_string(dir.path().join("day.svg")).expect("a picture");
            assert!(text.contains("ids 50093247781 to 50093247947 missing (sequence)"), "{file}");
        }
    }
}

#[test]
fn the_page_is_whole_and_fetches_nothing() {
    let dir = small_root();
    let root = dir.path().join("root");
    let page = quality(&root, &["--html"]).ok().text();
    let document = parse(&page);
    let days = quality(&root, &["--json"]).ok().json()["days"].as_array().expect("days").len();
    let rows = |table: Node<'_, '_>| {
        table.descendants().filter(|node| node.tag_name().name() == "tr" && node.attribute("id").is_some()).count()
    };
    assert_eq!(named(&document, "table").map(rows).sum::<usize>(), days);
    for node in document.descendants() {
        assert!(!["link", "img", "iframe", "object", "embed", "form", "base"].contains(&node.tag_name().name()));
        for attribute in node.attributes() {
            let name = attribute.name();
            assert!(!name.starts_with("on") && !["src", "style"].contains(&name), "{name}");
            assert!(name != "href" || attribute.value().starts_with('#'), "{}", attribute.value());
        }
    }
    // What a link names is there.
    let ids: Vec<_> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    assert!(named(&document, "a").filter_map(|a| a.attribute("href")).all(|to| ids.contains(&&to[1..])));
    let scripts: Vec<_> = named(&document, "script").collect();
    let [script] = scripts[..] else { panic!("{} scripts", scripts.len()) };
    let policy =
        named(&document, "meta").find_map(|meta| meta.attribute("content").filter(|text| text.contains("default-src")));
    let styles: Vec<_> = named(&document, "style").filter_map(|style| style.text()).collect();
    let [style] = styles[..] else { panic!("{} styles", styles.len()) };
    let [style, script] = [style, script.text().expect("a script")].map(|text| sha256_base64(text.as_bytes()));
    let expected = format!("default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'");
    assert_eq!(policy, Some(expected.as_str()));
    // Into a file it is the same.
    let file = dir.path().join("page.html");
    quality(&root, &["--html", "-o", file.to_str().expect("text")]).ok();
    assert_eq!(fs::read_to_string(file).expect("a page"), page);
}

fn sha256_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(bytes))
}

#[test]
fn hostile_names_stay_text() {
    let dir = scratch();
    let root = dir.path().join("root");
    let name = "<script>alert(1)<script> \"onload='x' &amp; \u{202e}]]>.gz";
    let hostile = dir.path().join(name);
    fs::copy(excerpt(), &hostile).expect("a copy");
    import(&root, SPOT, &[hostile]).ok();
    refine(&root, &["--seal"]).ok();
    let page = quality(&root, &["--html"]).ok().text();
    let document = parse(&page);
    assert_eq!(named(&document, "script").count(), 1);
    let shown = name.replace('\u{202e}', "\u{fffd}");
    assert!(named(&document, "td").any(|td| td.text() == Some(&shown)), "{page}");
    assert!(!page.contains('\u{202e}'));
}

#[test]
fn damage_is_told_and_the_rest_is_shown() {
    let dir = small_root();
    let root = dir.path().join("root");
    let before = quality(&root, &["--json"]).ok().json();
    let trades = root.join("warm/v1/binance-spot/ethusdt").join(DATE).join("trades.q");
    let mut bytes = fs::read(&trades).expect("a partition");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&trades, bytes).expect("damage");
    let found = quality(&root, &["--json"]).exits(1).json();
    assert_eq!(found["totals"]["damaged"], 1);
    let day = found["days"].as_array().expect("days").iter().find(|day| day["date"] == DATE).expect("the day");
    let problem = day["problems"][0].as_str().expect("a problem");
    assert!(problem.contains("trades.q") && problem.contains("offset"), "{problem}");
    assert_eq!(day["book"], before["days"][0]["book"], "the book is as whole as before");
    let page = quality(&root, &["--html"]).exits(1).text();
    assert!(parse(&page).descendants().any(|node| node.attribute("class") == Some("damaged")));
    quality(&root, &[]).exits(1).says("damaged: ");
    // And `meta.json` that is none.
    fs::write(trades.with_file_name("meta.json"), "{}").expect("damage");
    quality(&root, &["--json"]).exits(1).says("meta.json");
}

#[test]
fn many_days_make_a_page_that_opens() {
    let dir = small_root();
    let root = dir.path().join("root");
    let venue = root.join("warm/v1/binance-spot");
    let small = venue.join("ethusdt/2024-08-09");
    let day = if small.is_dir() { small } else { venue.join("ethusdt").join(DATE) };
    for symbol in 0..40 {
        for date in 1..=25 {
            copy(&day, &venue.join(format!("s{symbol:02}/2024-07-{date:02}")));
        }
    }
    // Copies lie under other names than they say: that is told, not believed.
    let page = quality(&root, &["--quick", "--html"]).text();
    let document = parse(&page);
    assert!(named(&document, "tr").filter(|tr| tr.attribute("id").is_some()).count() >= 1000);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
}

#[test]
fn nothing_there_is_called_wrongly() {
    let dir = small_root();
    let root = dir.path().join("root");
    let out = dir.path().join("out.svg");
    quality(Path::new("/nowhere/at/all"), &[]).exits(2).says("no such root");
    quality(&root, &["--venue", "kraken"]).exits(2).says("binance-spot/ethusdt");
    quality(&root, &["--html", "--json"]).exits(2);
    plot(&root, "xrpusdt", &out, &[]).exits(2).says("binance-spot/ethusdt");
    plot(&root, "ethusdt", &dir.path().join("out.gif"), &[]).exits(2).says(".svg or .png");
    plot(&root, "ethusdt", &out, &["--from", "23:59", "--to", "23:58"]).exits(2).says("is not behind");
    plot(&root, "ethusdt", &out, &["--from", "noon"]).exits(2).says("noon");
    plot(&root, "ethusdt", &out, &["--what", "weather"]).exits(2);
    about("plot", &root, SPOT, "ethusdt", &["--date", "2020-01-01", "-o", out.to_str().expect("text")])
        .exits(2)
        .says("nothing stored of 2020-01-01");
    assert!(!out.exists());
    plot(&root, "ethusdt", Path::new("/nowhere/at/all.svg"), &[]).exits(1).says("/nowhere/at/all.svg");
}

#[test]
fn a_picture_is_well_formed_and_the_same_again() {
    let dir = small_root();
    let root = dir.path().join("root");
    let (svg, png) = (dir.path().join("day.svg"), dir.path().join("day.png"));
    let drawn = plot(&root, "ethusdt", &svg, &[]).ok().json();
    let refined = refine(&root, &[]).ok().json();
    let rows = refined["partitions"].as_array().expect("partitions").clone();
    let events = |stream: &str| {
        let row = rows.iter().find(|row| row["stream"] == stream && row["date"] == DATE).expect("a row");
        row["events"].clone()
    };
    assert_eq!((&drawn["book_events"], &drawn["trades"]), (&events("book"), &events("trades")));
    let text = fs::read_to_string(&svg).expect("a picture");
    assert_eq!(drawn["bytes"], text.len());
    let document = parse(&text);
    assert!(text.contains("prefers-color-scheme: dark"));
    let image = named(&document, "image").next().expect("the heat map");
    assert!(image.attribute("href").is_some_and(|href| href.starts_with("data:image/png;base64,")));
    assert_eq!(
        named(&document, "title").next().and_then(|title| title.text()),
        Some("binance-spot ethusdt  2024-08-08")
    );
    for what in ["best bid", "spread", "UTC"] {
        assert!(named(&document, "text").any(|node| node.text().is_some_and(|text| text.contains(what))), "{what}");
    }
    plot(&root, "ethusdt", &dir.path().join("again.svg"), &[]).ok();
    assert_eq!(fs::read(dir.path().join("again.svg")).expect("a picture"), text.as_bytes());
    let dash = about("plot", &root, SPOT, "ethusdt", &["--date", DATE, "-o", "-"]).ok();
    assert_eq!(dash.out, text.as_bytes());

    for theme in ["light", "dark"] {
        plot(&root, "ethusdt", &png, &["--theme", theme]).ok();
        let decoder = png::Decoder::new(std::io::BufReader::new(File::open(&png).expect("a picture")));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("all of it");
        assert_eq!(info.width, 2400);
        let dark = pixels[..3].iter().all(|channel| *channel < 0x40);
        assert_eq!(dark, theme == "dark");
        let colours: std::collections::BTreeSet<_> = pixels.chunks(3).collect();
        assert!(colours.len() > 20, "{} colours", colours.len());
    }
    // One panel, and a part of the day.
    let part =
        plot(&root, "ethusdt", &svg, &["--what", "spread", "--from", "23:54:20", "--to", "23:54:30.5"]).ok().json();
    assert_eq!(
        (&part["from"], &part["to"]),
        (&"2024-08-08T23:54:20.000000000Z".into(), &"2024-08-08T23:54:30.500000000Z".into())
    );
    assert!(part["book_events"].as_u64() < drawn["book_events"].as_u64());
    assert_eq!(named(&parse(&fs::read_to_string(&svg).expect("a picture")), "image").count(), 0);
}

/// A day of noise, in which every column has its own extremes: more cannot be in a picture.
#[test]
fn a_busy_day_makes_no_larger_picture_and_loses_no_spike() {
    const EVENTS: u64 = 40_000;
    let dir = scratch();
    let recording = dir.path().join("noise");
    let mut random = Random::seeded();
    let mut lines = String::new();
    let day = 1_723_075_200_000;
    let _ = writeln!(
        lines,
        "{}000000 {{\"stream\":\"btcusdt@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":{day},\"s\":\"BTCUSDT\",\"U\":1,\"u\":1,\"b\":[],\"a\":[]}}}}",
        day
    );
    let _ = writeln!(
        lines,
        "{day}000000 {{\"lastUpdateId\":1,\"bids\":[[\"100.00\",\"1\"]],\"asks\":[[\"900.00\",\"1\"]]}}"
    );
    let mut best = (10_000, 90_000);
    for id in 2..EVENTS {
        let time = day + id * 86_399_000 / EVENTS;
        // The old best levels go, new ones come.
        let next = (20_000 + random.below(20_000), 50_000 + random.below(20_000));
        let text = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        let side = |old: u64, new: u64| format!("[\"{}\",\"0\"],[\"{}\",\"{}\"]", text(old), text(new), 1 + new % 7);
        let _ = writeln!(
            lines,
            "{time}000000 {{\"stream\":\"btcusdt@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":{time},\"s\":\"BTCUSDT\",\"U\":{id},\"u\":{id},\"b\":[{}],\"a\":[{}]}}}}",
            side(best.0, next.0),
            side(best.1, next.1)
        );
        best = next;
        let price = if id == EVENTS / 2 { 123_456 } else { 40_000 + random.below(10_000) };
        let _ = writeln!(
            lines,
            "{time}000000 {{\"stream\":\"btcusdt@trade\",\"data\":{{\"e\":\"trade\",\"E\":{time},\"T\":{time},\"s\":\"BTCUSDT\",\"t\":{id},\"p\":\"{}\",\"q\":\"1\",\"m\":{},\"M\":true}}}}",
            text(price),
            id % 2 == 0
        );
    }
    fs::write(&recording, lines).expect("a recording");
    let root = dir.path().join("root");
    import(&root, SPOT, &[recording]).ok();
    refine(&root, &["--seal"]).ok();
    let svg = dir.path().join("day.svg");
    let drawn = plot(&root, "btcusdt", &svg, &[]).ok().json();
    assert_eq!(drawn["trades"], EVENTS - 2);
    let highest = drawn["price"][1].as_f64().expect("a price");
    assert!((highest - 1234.56).abs() < 1e-9, "{highest}");
    let bytes = drawn["bytes"].as_u64().expect("a length");
    assert!(bytes < 600_000, "{bytes} bytes");
    parse(&fs::read_to_string(&svg).expect("a picture"));
}

/// Runs `book` with its output on a terminal.
fn book_on_a_terminal(root: &Path, no_color: &str) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it may be opened");
    let name = ptsname(&master, Vec::new()).expect("its name");
    let slave = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
    tcsetwinsize(&slave, Winsize { ws_row: 40, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
    let mut child = Command::new(BINARY)
        .args(["book", "--venue", SPOT, "--symbol", "ethusdt", "--at", "latest", "--depth", "5", "--root"])
        .arg(root)
        .env("NO_COLOR", no_color)
        .env("TERM", "xterm-256color")
        .stdin(Stdio::null())
        .stdout(Stdio::from(slave))
        .spawn()
        .expect("it starts");
    assert!(child.wait().expect("it ends").success());
    let mut shown = String::new();
    // The other end is closed: what it wrote is there, and then an error instead of an end.
    let _ = File::from(master).read_to_string(&mut shown);
    std::io::stderr().write_all(shown.as_bytes()).expect("shown");
    shown
}

#[test]
fn a_book_is_a_ladder_on_a_terminal_and_a_table_elsewhere() {
    let dir = small_root();
    let root = dir.path().join("root");
    let coloured = book_on_a_terminal(&root, "");
    assert!(coloured.contains("\u{1b}[32m") && coloured.contains("\u{1b}[31m") && coloured.contains('█'));
    let plain = book_on_a_terminal(&root, "1");
    assert!(!plain.contains('\u{1b}') && plain.contains('█') && plain.contains("spread"));
    // The width is that of the terminal that controls this process, if there is one.
    assert!(plain.lines().all(|line| line.trim_end().chars().count() <= 160), "{plain}");

    let book = |more: &[&str]| about("book", &root, SPOT, "ethusdt", &[&["--at", "latest"], more].concat());
    let table = book(&["--depth", "5"]).ok().says("│").text();
    assert!(!table.contains('█') && !table.contains("spread"));
    let ladder = book(&["--ladder", "--depth", "5"]).ok().text();
    assert!(ladder.contains('█') && !ladder.contains('\u{1b}'));
    // The same prices, best ones next to the spread.
    let object = book(&["--json", "--depth", "5"]).ok().json();
    let lines: Vec<_> = ladder.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("── ")).expect("the spread");
    for (i, level) in object["bids"].as_array().expect("bids").iter().enumerate() {
        let words: Vec<_> = lines[at + 1 + i].split_whitespace().take(2).collect();
        assert_eq!(words, [level[0].as_str().expect("a price"), level[1].as_str().expect("a quantity")]);
    }
    for (i, level) in object["asks"].as_array().expect("asks").iter().enumerate() {
        assert!(lines[at - 1 - i].trim_start().starts_with(level[0].as_str().expect("a price")));
    }
    book(&["--ladder", "--csv"]).exits(2);
}

/// The pictures in the documentation are small, and there.
#[test]
fn the_documentation_shows_what_it_names() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let text = fs::read_to_string(docs.join("seeing.md")).expect("the page");
    let images: Vec<PathBuf> = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|to| to.ends_with(".png"))
        .map(|to| docs.join(to))
        .collect();
    assert!(!images.is_empty());
    for image in images {
        let len = fs::metadata(&image).unwrap_or_else(|error| panic!("{}: {error}", image.display())).len();
        assert!(len < 200 << 10, "{}: {len} bytes", image.display());
    }
}
