//! Whoever sends an order twice gets it once, and whoever hears no answer can find out what became of it.

mod client;

use client::{ask, get, post, request, start};

fn order(rest: &str) -> String {
    format!("/api/v3/order?symbol=BTCUSDT&{rest}")
}

#[test]
fn orders_are_taken_filled_found_and_taken_back() {
    let exchange = start(|config| config.rate = 0);
    let at = exchange.address();
    let book = get(at, "/local/book?symbol=BTCUSDT");
    let (bid, ask_price) = (book["bids"][0][0].as_str().unwrap(), book["asks"][0][0].as_str().unwrap());

    let resting = order(&format!("side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.5&price={bid}&newClientOrderId=a-1"));
    let placed = post(at, &resting);
    assert_eq!((placed["status"].as_str(), placed["executedQty"].as_str()), (Some("NEW"), Some("0.00000000")));
    let (status, twice) = ask(at, "POST", &resting);
    assert_eq!(
        (status, twice["code"].as_i64(), twice["msg"].as_str()),
        (400, Some(-2010), Some("Duplicate order sent."))
    );

    let taken = post(at, &order("side=SELL&type=MARKET&quantity=0.00001&newClientOrderId=a-2"));
    assert_eq!(taken["status"], "FILLED");
    assert_eq!(taken["fills"][0]["price"], bid, "the maker's price");
    assert_eq!(taken["fills"][0]["qty"], "0.00001000");

    let nothing = post(
        at,
        &order(&format!("side=BUY&type=LIMIT&timeInForce=FOK&quantity=900&price={ask_price}&newClientOrderId=a-3")),
    );
    assert_eq!((nothing["status"].as_str(), nothing["fills"].as_array().unwrap().len()), (Some("EXPIRED"), 0));

    let maker = format!("side=BUY&type=LIMIT_MAKER&quantity=1&price={ask_price}");
    assert_eq!(ask(at, "POST", &order(&maker)).1["code"], -2010, "it would take");

    assert_eq!(get(at, &order("origClientOrderId=a-1"))["status"], "NEW");
    let id = placed["orderId"].as_u64().unwrap();
    let (status, cancelled) = ask(at, "DELETE", &order(&format!("orderId={id}")));
    assert_eq!((status, cancelled["status"].as_str()), (200, Some("CANCELED")));
    assert_eq!(ask(at, "DELETE", &order("origClientOrderId=a-1")).1["code"], -2011);
    assert_eq!(ask(at, "GET", &order("origClientOrderId=a-9")).1["code"], -2013);
    assert_eq!(ask(at, "POST", &resting).1["code"], -2010, "a name is used up for ever");

    let audit = get(at, "/local/orders");
    assert_eq!(audit["count"], 3);
    assert_eq!(get(at, "/local/orders?after=1&limit=1")["orders"][0]["clientOrderId"], "a-2");
}

#[test]
fn what_is_no_order_is_refused_with_the_venues_numbers() {
    let exchange = start(|config| config.rate = 0);
    let at = exchange.address();
    let before = get(at, "/local/book?symbol=BTCUSDT");
    for (rest, code) in [
        ("type=MARKET&quantity=1", -1102),
        ("side=HOLD&type=MARKET&quantity=1", -1117),
        ("side=BUY&quantity=1", -1102),
        ("side=BUY&type=STOP&quantity=1", -1116),
        ("side=BUY&type=LIMIT&quantity=1&price=1", -1102),
        ("side=BUY&type=LIMIT&timeInForce=GTX&quantity=1&price=1", -1115),
        ("side=BUY&type=LIMIT&timeInForce=GTC&quantity=1", -1102),
        ("side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=1.001", -1013),
        ("side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=-1", -1100),
        ("side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0", -1013),
        ("side=BUY&type=MARKET&quantity=0.000001", -1013),
        ("side=BUY&type=MARKET&quantity=99999999999999999999999", -1013),
        ("side=BUY&type=MARKET&quantity=0", -1013),
        ("side=BUY&type=MARKET&quantity=1e5", -1100),
        ("side=BUY&type=MARKET&quantity=1&newClientOrderId=%22%7D", -1100),
        ("side=BUY&type=MARKET&quantity=1&newClientOrderId=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", -1100),
    ] {
        let (status, answer) = ask(at, "POST", &order(rest));
        assert_eq!((status, answer["code"].as_i64()), (400, Some(code)), "{rest}: {answer}");
    }
    assert_eq!(get(at, "/local/book?symbol=BTCUSDT"), before);
    assert_eq!(get(at, "/local/orders")["count"], 0);
}

#[test]
fn an_order_whose_answer_is_lost_is_there_once() {
    let exchange = start(|config| config.rate = 0);
    let at = exchange.address();
    let sent = order("side=BUY&type=MARKET&quantity=0.001&newClientOrderId=once");
    post(at, "/local/misbehave?what=close_at&step=order");
    request(at, "POST", &sent).unwrap_err();
    assert_eq!(ask(at, "GET", &order("origClientOrderId=once")).1["code"], -2013, "it was lost on the way there");
    post(at, "/local/misbehave?what=close_at&step=answer");
    request(at, "POST", &sent).unwrap_err();
    assert_eq!(get(at, &order("origClientOrderId=once"))["status"], "FILLED", "it was lost on the way back");
    assert_eq!(ask(at, "POST", &sent).1["code"], -2010);
    assert_eq!(get(at, "/local/orders")["count"], 1);
}
