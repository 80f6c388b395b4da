//! A client that knows only Binance's rules for spot has the exchange's own book, at every moment that it can name.
//!
//! Without this, whatever a feed is compared with proves nothing.

mod client;

use client::{Stream, TextBook, ask, get, post, start};

#[test]
fn a_client_by_the_rules_has_the_exchanges_own_book() {
    let exchange = start(|_| {});
    let at = exchange.address();
    let mut stream = Stream::open(at, "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker");
    let first = loop {
        let message = stream.next();
        if message["stream"] == "btcusdt@depth@100ms" {
            break message["data"].clone();
        }
    };
    let mut book = TextBook::of(&get(at, "/api/v3/depth?symbol=BTCUSDT&limit=5000"));
    assert!(book.last >= first["u"].as_u64().unwrap());

    let (mut compared, mut marked, mut bridged) = (0, Vec::<u64>::new(), false);
    let (mut last_depth, mut last_trade, mut tickers) = (first["u"].as_u64().unwrap(), None, Vec::new());
    while marked.len() < 5 || marked.last() != Some(&compared) {
        let message = stream.next();
        let data = &message["data"];
        match message["stream"].as_str().unwrap() {
            "btcusdt@depth@100ms" => {
                assert_eq!(data["U"], last_depth + 1, "an event begins where the last one ended");
                last_depth = data["u"].as_u64().unwrap();
                if !bridged && last_depth > book.last {
                    assert!(data["U"].as_u64().unwrap() <= book.last + 1);
                    bridged = true;
                }
                assert!(book.apply(data));
                if bridged && marked.len() < 5 {
                    // It may be the moment that has just been told: then no other event ends there.
                    marked.push(post(at, "/local/mark")[0]["last_update_id"].as_u64().unwrap());
                }
                if marked.contains(&book.last) {
                    let own = get(at, &format!("/local/book?symbol=BTCUSDT&at={}", book.last));
                    assert_eq!(book, TextBook::of(&own), "at update {}", book.last);
                    compared = book.last;
                }
                // The venue's own truth in the stream: the newest ticker is the best of the book.
                if let Some(ticker) = tickers
                    .iter()
                    .rev()
                    .find(|ticker: &&serde_json::Value| bridged && ticker["u"].as_u64().unwrap() <= book.last)
                {
                    let number = |text: &&String| text.parse::<f64>().unwrap();
                    let best_bid = book.bids.keys().max_by(|a, b| number(a).total_cmp(&number(b))).unwrap();
                    let best_ask = book.asks.keys().min_by(|a, b| number(a).total_cmp(&number(b))).unwrap();
                    assert_eq!((&ticker["b"], &ticker["B"]), (&(**best_bid).into(), &(*book.bids[best_bid]).into()));
                    assert_eq!((&ticker["a"], &ticker["A"]), (&(**best_ask).into(), &(*book.asks[best_ask]).into()));
                    assert!(number(&best_bid) < number(&best_ask), "a book is never crossed");
                }
            }
            "btcusdt@trade" => {
                let id = data["t"].as_u64().unwrap();
                assert!(last_trade.is_none_or(|last| id == last + 1), "no trade id is missing");
                last_trade = Some(id);
            }
            "btcusdt@bookTicker" => {
                assert!(data.get("e").is_none() && data.get("E").is_none(), "spot tickers carry neither kind nor time");
                tickers.push(data.clone());
            }
            other => panic!("{other} was not asked for"),
        }
    }
    assert!(last_trade.is_some() && !tickers.is_empty());
}

#[test]
fn when_the_crowd_pauses_the_stream_ends_at_the_book() {
    let exchange = start(|_| {});
    let at = exchange.address();
    let mut stream = Stream::open(at, "/ws/btcusdt@depth");
    let first = stream.next();
    assert_eq!(first["e"], "depthUpdate", "a single stream has no envelope");
    let mut book = TextBook::of(&get(at, "/api/v3/depth?symbol=btcusdt&limit=5000"));
    post(at, "/local/pause");
    let own = TextBook::of(&get(at, "/local/book?symbol=BTCUSDT"));
    while book.last < own.last {
        assert!(book.apply(&stream.next()));
    }
    assert_eq!(book, own);
    assert_eq!(own, TextBook::of(&get(at, "/local/book?symbol=BTCUSDT")), "nothing moves");
    post(at, "/local/resume");
    assert!(book.apply(&stream.next()), "and it goes on where it stopped");
    assert_ne!(book, own);
}

#[test]
fn subscriptions_come_and_go() {
    let exchange = start(|_| {});
    let mut stream = Stream::open(exchange.address(), "/ws");
    stream.say(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade","nosuch@trade"],"id":7}"#);
    assert_eq!(stream.next().to_string(), r#"{"id":7,"result":null}"#);
    assert_eq!(stream.next()["e"], "trade");
    stream.say(r#"{"method":"LIST_SUBSCRIPTIONS","id":"a"}"#);
    let listed = std::iter::repeat_with(|| stream.next()).find(|message| message["id"] == "a").unwrap();
    assert_eq!(listed["result"][0], "btcusdt@trade");
    stream.say(r#"{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":8}"#);
    while stream.next()["id"] != 8 {}
    stream.say("not json");
    assert_eq!(stream.next()["error"]["code"], 3, "nothing but answers after the last stream is gone");
    stream.say(r#"{"method":"DANCE","id":9}"#);
    assert_eq!(stream.next()["error"]["code"], 2);
}

#[test]
fn rest_speaks_as_the_venue() {
    let exchange = start(|config| config.symbols.push("ethusdt=2650.0".parse().unwrap()));
    let at = exchange.address();
    assert_eq!(get(at, "/api/v3/ping").to_string(), "{}");
    assert!(get(at, "/api/v3/time")["serverTime"].as_u64().unwrap() > 1_700_000_000_000);
    let info = get(at, "/api/v3/exchangeInfo");
    assert_eq!(info["symbols"][1]["symbol"], "ETHUSDT");
    assert_eq!(info["symbols"][1]["baseAsset"], "ETH");
    assert_eq!(info["symbols"][1]["filters"][0]["tickSize"], "0.10000000");
    let book = get(at, "/api/v3/depth?symbol=ETHUSDT&limit=5");
    assert_eq!(book["bids"].as_array().unwrap().len(), 5);
    assert!(book.get("E").is_none(), "spot books carry no time");
    for (path, status, code) in [
        ("/api/v3/depth", 400, -1102),
        ("/api/v3/depth?symbol=XRPUSDT", 400, -1121),
        ("/api/v3/depth?symbol=ETHUSDT&limit=0", 400, -1130),
        ("/api/v3/depth?symbol=ETHUSDT&limit=many", 400, -1130),
    ] {
        let (got, answer) = ask(at, "GET", path);
        assert_eq!((got, answer["code"].as_i64().unwrap()), (status, code), "{path}: {answer}");
    }
    assert_eq!(ask(at, "GET", "/fapi/v1/depth?symbol=ETHUSDT").0, 404, "another venue's path");
    assert_eq!(ask(at, "POST", "/local/misbehave?what=nothing").0, 400);
}
