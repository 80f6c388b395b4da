//! A symbol table answers as a reader of all its rows would, and one that contradicts itself is refused with its rows.
//!
//! A wrong join is a book of two instruments in one; nobody who looks at the book afterwards can tell.

use chronicle_etl::symbols::{COLUMNS, ProblemKind, Table, Version};
use chronicle_storage::root::{Date, Name, TimeNs};

const HEADER: &str = "venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_from,valid_to\n";

fn table(rows: &str) -> Table {
    Table::from_csv(format!("{HEADER}{rows}").as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is wrong, as `chronicle symbols check` prints it.
fn refused(rows: &str) -> Vec<String> {
    let problems = Table::from_csv(format!("{HEADER}{rows}").as_bytes()).expect_err(rows);
    problems.list.iter().map(|problem| problems.told(problem).to_string()).collect()
}

fn at(text: &str) -> u64 {
    format!("{text}.000000000Z").parse::<TimeNs>().unwrap().0
}

const LUNA: &str = "\
binance-spot,LUNAUSDT,7,lunausdt,11,2020-08-21T10:00:00Z,2022-05-28
binance-spot,LUNCUSDT,7,luncusdt,12,2022-05-28,
binance-spot,LUNAUSDT,9,luna2usdt,13,2022-05-31T06:00:00Z,
";

#[test]
fn a_name_means_what_it_meant_then() {
    let table = table(LUNA);
    let resolve = |raw: &str, time: &str| {
        let found = table.resolve("binance-spot", raw, at(time))?;
        Some((
            found.version.symbol_id,
            found.version.symbol_code.to_string(),
            found.version.symbol_version_id,
            found.turn,
        ))
    };
    let of = |id: u64, code: &str, version: u64, turn: u32| Some((id, code.to_owned(), version, turn));
    assert_eq!(resolve("LUNAUSDT", "2020-08-21T09:59:59"), None, "not listed yet");
    assert_eq!(resolve("LUNAUSDT", "2020-08-21T10:00:00"), of(7, "lunausdt", 11, 0), "from is in it");
    assert_eq!(resolve("LUNAUSDT", "2022-05-27T23:59:59"), of(7, "lunausdt", 11, 0));
    assert_eq!(resolve("LUNAUSDT", "2022-05-28T00:00:00"), None, "to is not");
    assert_eq!(resolve("LUNCUSDT", "2022-05-28T00:00:00"), of(7, "luncusdt", 12, 1));
    assert_eq!(resolve("LUNAUSDT", "2022-05-31T06:00:00"), of(9, "luna2usdt", 13, 0), "another one by the same name");
    assert_eq!(resolve("LUNCUSDT", "2300-01-01T00:00:00"), of(7, "luncusdt", 12, 1), "open");
    assert_eq!(resolve("lunausdt", "2021-01-01T00:00:00"), None, "the venue's own text, letter by letter");
    assert!(table.resolve("binance-usdm", "LUNAUSDT", at("2021-01-01T00:00:00")).is_none());
}

#[test]
fn what_is_around_a_time_without_a_version() {
    let table = table(LUNA);
    let around = |raw: &str, time: &str| {
        let (before, behind) = table.around("binance-spot", raw, at(time));
        (before.map(|v| v.symbol_version_id), behind.map(|v| v.symbol_version_id))
    };
    assert_eq!(around("LUNAUSDT", "2022-05-29T00:00:00"), (Some(11), Some(13)));
    assert_eq!(around("LUNAUSDT", "2000-01-01T00:00:00"), (None, Some(11)));
    assert_eq!(around("FTTUSDT", "2022-05-29T00:00:00"), (None, None));
}

/// A spot quote has no time of its own. Midnight of the venue is not that of the clock that recorded it.
#[test]
fn a_record_without_time_belongs_to_the_only_symbol_that_ever_had_its_text() {
    let table = table(LUNA);
    let untimed = |raw: &str, time: &str| {
        table.resolve_untimed("binance-spot", raw, at(time)).map(|found| (found.version.symbol_id, found.turn))
    };
    assert_eq!(
        untimed("LUNCUSDT", "2022-05-27T23:59:59"),
        Some((7, 1)),
        "a second before it was listed, by this clock"
    );
    assert_eq!(untimed("LUNCUSDT", "2022-05-28T00:00:01"), Some((7, 1)));
    assert_eq!(untimed("LUNAUSDT", "2022-05-27T00:00:00"), Some((7, 0)));
    assert_eq!(untimed("LUNAUSDT", "2022-05-29T00:00:00"), None, "two had this text: the clock decides, and says none");
    assert_eq!(untimed("LUNAUSDT", "2022-06-01T00:00:00"), Some((9, 0)));
    assert_eq!(untimed("FTTUSDT", "2022-06-01T00:00:00"), None);
}

#[test]
fn a_day_has_one_code() {
    let table = table(
        "v,A,1,a,1,2024-08-05T10:00:00Z,2024-08-08T12:00:00Z\n\
         v,B,1,b,2,2024-08-08T12:00:00Z,2024-08-10\n\
         v,C,1,c,3,2024-08-20T01:00:00Z,2024-08-20T02:00:00Z\n\
         v,D,1,d,4,2024-08-20T02:00:00Z,\n",
    );
    let venue = Name::new("v").unwrap();
    let on = |date: &str| {
        let listing = table.on(&venue, 1, date.parse().unwrap()).unwrap();
        (listing.code.to_string(), listing.raw, listing.version_id)
    };
    let is = |code: &str, version: u64| (code.to_owned(), code.to_uppercase(), version);
    assert_eq!(on("2024-08-05"), is("a", 1), "listed in the morning");
    assert_eq!(on("2024-08-08"), is("a", 1), "renamed at noon: from midnight on");
    assert_eq!(on("2024-08-09"), is("b", 2));
    assert_eq!(on("2024-08-10"), is("b", 2), "delisted at midnight: what comes late has the last name");
    assert_eq!(on("2024-08-19"), is("b", 2));
    assert_eq!(on("2024-08-20"), is("c", 3), "the first of the two that began on this day");
    assert_eq!(on("2024-08-21"), is("d", 4));
    assert_eq!(on("2024-01-01"), is("a", 1), "before all");
    assert_eq!(table.on(&venue, 2, Date::MIN), None);
    let holes: Vec<_> = table.holes().map(|(a, b)| (a.symbol_version_id, b.symbol_version_id)).collect();
    assert_eq!(holes, [(2, 3)]);
}

#[test]
fn contradictions_are_refused_with_their_rows() {
    let day = "2024-01-01,2024-02-01";
    assert_eq!(
        refused(&format!("v,A,1,a,1,{day}\nv,A,2,b,2,2024-01-31T23:59:59.999999999Z,\n")),
        ["lines 2 and 3: v/A has two versions from 2024-01-31T23:59:59.999999999Z on: the other one is until \
          2024-02-01T00:00:00.000000000Z"]
    );
    assert_eq!(table(&format!("v,A,1,a,1,{day}\nv,A,2,b,2,2024-02-01,\n")).versions().len(), 2, "they touch");
    assert_eq!(
        refused("v,A,1,a,1,2024-01-01,\nv,A,1,a,2,2024-02-01,\n"),
        ["lines 2 and 3: v/A has two versions from 2024-02-01T00:00:00.000000000Z on: the other one is open"],
        "the old version was not closed"
    );
    assert_eq!(
        refused("v,B,1,b,1,2024-02-01,\nv,A,1,a,2,2024-01-01,2024-02-02\n"),
        [
            "lines 2 and 3: symbol_id 1 of v has two versions from 2024-02-01T00:00:00.000000000Z on: the other one is until \
          2024-02-02T00:00:00.000000000Z"
        ]
    );
    assert_eq!(
        refused(&format!("v,A,1,a,1,{day}\nw,A,1,a,1,{day}\n")),
        ["lines 2 and 3: symbol_version_id 1 is there twice"]
    );
    assert_eq!(
        refused(&format!("v,A,1,a,1,{day}\nv,B,2,a,2,2025-01-01,\n")),
        [
            "lines 2 and 3: symbol_code a of v belongs to symbol_id 1 and 2; give one of them another: a directory is one \
          symbol's"
        ]
    );
    assert_eq!(table(&format!("v,A,1,a,1,{day}\nw,A,1,a,2,{day}\n")).versions().len(), 2, "another venue's");
    // One long version hides what a comparison of neighbours would not find.
    let hidden =
        refused("v,A,1,a,1,2024-01-01,2024-12-31\nv,A,2,b,2,2024-02-01,2024-03-01\nv,A,3,c,3,2024-04-01,2024-05-01\n");
    assert_eq!(hidden.len(), 2, "{hidden:?}");
    assert!(hidden[1].starts_with("lines 2 and 4: v/A has two versions"), "{hidden:?}");
}

#[test]
fn rows_that_say_too_little_or_too_much() {
    let one = |row: &str| {
        let all = refused(row);
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    };
    assert_eq!(one("v,A,1,a,1,,2024-02-01\n"), "line 2: valid_from is missing");
    assert_eq!(one("v,,1,a,1,2024-01-01,\n"), "line 2: raw_symbol is missing");
    assert_eq!(
        one("v,A,1,a,1,2024-02-01,2024-02-01\n"),
        "line 2: valid_from 2024-02-01T00:00:00.000000000Z is not before valid_to 2024-02-01T00:00:00.000000000Z"
    );
    assert_eq!(one("v,A,-1,a,1,2024-01-01,\n"), "line 2: symbol_id \"-1\" is no whole number");
    assert_eq!(one("v,A,1,a,1.0,2024-01-01,\n"), "line 2: symbol_version_id \"1.0\" is no whole number");
    assert!(one("v,A,1,../a,1,2024-01-01,\n").starts_with("line 2: symbol_code: "));
    assert!(one("V,A,1,a,1,2024-01-01,\n").starts_with("line 2: venue: "));
    assert_eq!(
        one("v,A,1,unresolved,1,2024-01-01,\n"),
        "line 2: symbol_code unresolved belongs to the refinery: take another"
    );
    assert_eq!(one("v,A,1,_,1,2024-01-01,\n"), "line 2: symbol_code _ belongs to the refinery: take another");
    assert_eq!(
        one("v,A,1,a,1,2024-01-01 10:00:00,\n"),
        "line 2: valid_from \"2024-01-01 10:00:00\" says no time zone: write Z behind it if it is UTC"
    );
    assert_eq!(
        one("v,A,1,a,1,1704067200,\n"),
        "line 2: valid_from \"1704067200\" is no time: write it like 2024-08-09T10:00:00Z or 2024-08-09"
    );
    assert_eq!(one("v,A,1,a,1,1969-12-31,\n"), "line 2: valid_from \"1969-12-31\" is before 1970");
    assert_eq!(one("v,A,1,a,1,9999-12-31,\n"), "line 2: valid_from is later than any record");
    assert_eq!(one("v,A,1,a,1,2024-01-01\n"), "line 2: 6 fields, the header has 7");
    assert_eq!(refused(""), ["no row"]);
    // Lines are the file's, also behind a field of two lines.
    let all = refused("v,\"A\nB\",1,a,1,2024-01-01,\nv,C,x,c,2,,\n");
    assert_eq!(all, ["line 4: valid_from is missing", "line 4: symbol_id \"x\" is no whole number"]);
    // Everything at once: those of one row, and of rows together.
    let all = refused("v,A,1,a,1,2024-01-01,\nv,A,1,a,2,2024-02-01,\nv,B,2,,3,2024-01-01,\n");
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn headers_and_spellings_of_others() {
    let with = |text: &str| Table::from_csv(text.as_bytes());
    // Other columns beside, another order, Windows' line ends, a byte order mark, offsets, a far future.
    let table = with(
        "\u{feff}tick_size,valid_to,valid_from,symbol_version_id,symbol_code,symbol_id,raw_symbol,venue\r\n\
         0.01,9999-12-31T23:59:59Z,2024-01-01T02:00:00+02:00,5,a,4,\"A,B\",v\r\n",
    )
    .unwrap();
    let expected = Version {
        venue: Name::new("v").unwrap(),
        raw_symbol: "A,B".into(),
        symbol_id: 4,
        symbol_code: Name::new("a").unwrap(),
        symbol_version_id: 5,
        valid_from: TimeNs(at("2024-01-01T00:00:00")),
        valid_to: None,
    };
    assert_eq!(table.versions(), [expected]);
    let windows = format!("{HEADER}v,A,1,a,1,2024-01-01,\n\nv,B,,b,2,2024-01-01,\n").replace('\n', "\r\n");
    assert_eq!(with(&windows).unwrap_err().to_string(), "line 4: symbol_id is missing");
    let what = |text: &str| {
        let problems = with(text).unwrap_err();
        assert_eq!(problems.list[0].kind, ProblemKind::Columns);
        problems.to_string()
    };
    assert_eq!(what(""), "line 1: file is empty: no header line");
    assert_eq!(
        what("venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_to\n"),
        "line 1: header has no column valid_from"
    );
    assert_eq!(what(&format!("venue,{HEADER}")), "line 1: header names column venue twice");
    assert!(Table::from_csv(b"\xff\xfe").is_err());
    let latin = [HEADER.as_bytes(), b"v,\xe4,1,a,1,2024-01-01,\n"].concat();
    assert_eq!(Table::from_csv(&latin).unwrap_err().to_string(), "line 2: raw_symbol is not UTF-8");
}

#[test]
fn rows_from_elsewhere_are_counted_by_row() {
    let row = |version: &'static str| ["v", "A", "1", "a", version, "2024-01-01", "2024-02-01"].map(Some);
    let problems = Table::from_rows([row("1"), row("2")], [0; 32]).unwrap_err();
    assert!(problems.to_string().starts_with("rows 1 and 2: v/A has two versions"), "{problems}");
    assert_eq!(Table::from_rows([row("1")], [7; 32]).unwrap().sha256(), [7; 32]);
}

/// splitmix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Random tables, most of them contradictory: one is taken exactly if no two rows contradict each other, and then every
/// answer is that of a search through all rows.
#[test]
fn it_answers_as_a_search_through_all_rows() {
    let seed = std::env::var("CHRONICLE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5b0_1234);
    println!("CHRONICLE_SEED={seed}");
    let mut random = Random(seed);
    let (mut taken, mut questions, mut found) = (0, 0, 0);
    for round in 0..4_000 {
        let second = |n: u64| TimeNs(1_700_000_000_000_000_000 + n * 1_000_000_000);
        let mut rows = Vec::new();
        for version in 0..1 + random.below(6) {
            let from = random.below(30);
            let id = random.below(3);
            rows.push(Version {
                venue: Name::new(["v", "w"][random.below(2) as usize]).unwrap(),
                raw_symbol: ["A", "B", "C"][random.below(3) as usize].into(),
                symbol_id: id,
                symbol_code: Name::new(&format!("c{id}-{}", random.below(2))).unwrap(),
                symbol_version_id: if random.below(20) == 0 { 0 } else { version },
                valid_from: second(from),
                valid_to: (random.below(4) > 0).then(|| second(from + random.below(12))),
            });
        }
        let text = |time: Option<TimeNs>| time.map_or_else(String::new, |time| time.to_string());
        let mut csv = HEADER.to_owned();
        for r in &rows {
            let (from, to) = (text(Some(r.valid_from)), text(r.valid_to));
            let Version { venue, raw_symbol, symbol_id, symbol_code, symbol_version_id, .. } = r;
            csv += &format!("{venue},{raw_symbol},{symbol_id},{symbol_code},{symbol_version_id},{from},{to}\n");
        }
        let meet = |a: &Version, b: &Version| (0..60).map(second).any(|t| a.is_valid_at(t.0) && b.is_valid_at(t.0));
        let pairs = || rows.iter().enumerate().flat_map(|(i, a)| rows[..i].iter().map(move |b| (a, b)));
        let contradict = rows.iter().any(|r| r.valid_to.is_some_and(|to| to <= r.valid_from))
            || pairs().any(|(a, b)| {
                a.symbol_version_id == b.symbol_version_id
                    || a.venue == b.venue && (a.raw_symbol == b.raw_symbol || a.symbol_id == b.symbol_id) && meet(a, b)
            });
        let table = Table::from_csv(csv.as_bytes());
        assert_eq!(table.is_err(), contradict, "round {round}:\n{csv}{table:?}");
        let Ok(table) = table else { continue };
        taken += 1;
        for _ in 0..40 {
            let (venue, raw) = (["v", "w"][random.below(2) as usize], ["A", "B", "C"][random.below(3) as usize]);
            let time = second(random.below(45)).0 - random.below(2);
            let expected =
                rows.iter().find(|r| r.venue.as_str() == venue && r.raw_symbol == raw && r.is_valid_at(time));
            let answer = table.resolve(venue, raw, time).map(|found| found.version);
            assert_eq!(answer, expected, "round {round}: {venue}/{raw} at {}:\n{csv}", TimeNs(time));
            questions += 1;
            found += u32::from(answer.is_some());
        }
    }
    println!("{taken} tables, {questions} questions, {found} found");
    assert!(taken > 500 && found > 2_000, "the tables say too little");
}

/// Bytes that were flipped, cut or put together from others: a table or its problems, never a panic.
#[test]
fn hostile_files_are_refused_or_read() {
    let good = format!("{HEADER}{LUNA}");
    let mut random = Random(9);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, b",\"\n\r-9"[random.below(6) as usize]),
            }
        }
        if let Err(problems) = Table::from_csv(&bytes) {
            refused += 1;
            assert!(problems.count > 0 && !problems.list.is_empty());
            assert!(problems.to_string().len() < 1_000, "{problems}");
        }
    }
    assert!(refused > 10_000, "{refused}");
    assert_eq!(COLUMNS.len(), HEADER.split(',').count());
}
