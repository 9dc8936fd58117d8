//! How sessions begin, are refused and end.

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures_util::SinkExt;
use http_body_util::BodyExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use support::{Client, Node, Store, until};
use thali_gateway::Config;
use thali_gateway::auth::{AuthSettings, TokenAlgorithm};
use tokio_websockets::Message;
use tower::ServiceExt as _;

async fn ask(
    node: &Node,
    method: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(format!("/socket.io/?EIO=4&{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = node.gateway.router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn polling(node: &Node) -> String {
    let (status, body) = ask(node, "GET", "transport=polling", &[], "").await;
    assert_eq!(status, 200);
    let open: Value = serde_json::from_str(&body[1..]).unwrap();
    format!("transport=polling&sid={}", open["sid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_carries_the_whole_vocabulary() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let sid = polling(&node).await;
    assert_eq!(ask(&node, "POST", &sid, &[], "40").await, (200, "ok".to_owned()));
    assert!(ask(&node, "GET", &sid, &[], "").await.1.starts_with("40{\"sid\":"));
    let two = "420[\"subscribe\",\"r\"]\u{1e}421[\"publish\",\"r\",\"e\",1]";
    assert_eq!(ask(&node, "POST", &sid, &[], two).await.0, 200);
    let mut heard = String::new();
    while heard.matches('\u{1e}').count() < 3 {
        heard = format!("{heard}\u{1e}{}", ask(&node, "GET", &sid, &[], "").await.1);
    }
    let mut packets: Vec<&str> = heard.trim_matches('\u{1e}').split('\u{1e}').collect();
    packets.sort_unstable();
    assert_eq!(packets, ["42[\"e\",1]", "430[{\"ok\":true,\"room\":\"r\"}]", "431[{\"ok\":true}]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_cost_their_session_and_nothing_else() {
    let store = Store::start().await;
    let node = Node::start(&store, Config { payload_bytes_max: 100, ..Config::default() }).await;
    let mut bystander = Client::connect(&node).await;
    type Headers = &'static [(&'static str, &'static str)];
    let cases: &[(Headers, Vec<u8>, u16)] = &[
        (&[("content-type", "application/octet-stream")], vec![0xff, 0x00, 0x04], 400),
        (&[], vec![0xff, 0xfe], 400),
        (&[], b"abc".to_vec(), 400),
        (&[], b"b!!".to_vec(), 400),
        (&[], b"4abc".to_vec(), 400),
        (&[], vec![b'4'; 101], 413),
    ];
    for (headers, body, status) in cases {
        let sid = polling(&node).await;
        assert_eq!(ask(&node, "POST", &sid, headers, body.clone()).await.0, *status, "{body:?}");
        assert_eq!(ask(&node, "GET", &sid, &[], "").await.0, 400, "the session is gone");
    }
    until("they are forgotten", || node.gateway.stats().connections == 1).await;
    bystander.subscribe("r").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_packets_close_with_a_number() {
    let store = Store::start().await;
    let node = Node::start(&store, Config { payload_bytes_max: 100, ..Config::default() }).await;
    let long = "4".repeat(101);
    let table = [
        ("abc", 4501, "invalid_packet"),
        ("2", 4501, "invalid_packet"),
        ("4abc", 4502, "invalid_message"),
        ("42{}", 4502, "invalid_message"),
        ("42[\"a\"", 4502, "invalid_message"),
        ("451-[\"a\"]\u{0}4", 4502, "invalid_message"),
        ("40", 4502, "invalid_message"),
        (long.as_str(), 1009, "max length: 100"),
    ];
    for (text, number, name) in table {
        let mut client = Client::connect(&node).await;
        client.send(text.to_owned()).await;
        if text.starts_with("451") {
            client.send("42[\"text while binary is due\"]".to_owned()).await;
        }
        assert_eq!(client.closed().await, (number, name.to_owned()), "{text:?}");
    }
    let mut client = Client::connect(&node).await;
    client.socket.send(Message::binary(vec![1u8])).await.unwrap();
    assert_eq!(client.closed().await, (4502, "invalid_message".to_owned()), "binary that nothing announced");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_and_holds_no_memory() {
    let store = Store::start().await;
    let node = Node::start(&store, Config { queue_bytes_max: 1_000_000, ..Config::default() }).await;
    let mut deaf = Client::connect(&node).await;
    let mut good = Client::connect(&node).await;
    deaf.subscribe("r").await;
    good.subscribe("r").await;
    let data = serde_json::value::to_raw_value(&"x".repeat(50_000)).unwrap();
    for _ in 0..2_000 {
        node.gateway.publish("r", "e", &data).await.unwrap();
        good.event().await;
        if node.gateway.stats().slow_consumers == 1 {
            break;
        }
    }
    assert_eq!(node.gateway.stats().slow_consumers, 1);
    assert_eq!(node.gateway.stats().connections, 1);
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_session() {
    let store = Store::start().await;
    let ping = Duration::from_millis(50);
    let config = Config { ping_interval: ping, ping_timeout: ping, ..Config::default() };
    let node = Node::start(&store, config).await;
    let mut client = Client::connect(&node).await;
    // `closed` reads, and answers no ping.
    assert_eq!(client.closed().await, (4002, "ping_timeout".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn going_down_sends_clients_away_to_come_back() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    client.subscribe("r").await;
    node.gateway.shutdown().await;
    assert_eq!(client.closed().await, (4001, "shutdown".to_owned()));
    assert_eq!(ask(&node, "GET", "transport=polling", &[], "").await.0, 503);
    let nodes: Vec<String> = store.run(&["KEYS", "thali:*"]).await;
    assert_eq!(nodes, Vec::<String>::new(), "and leaves nothing in the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_from_elsewhere_need_permission() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let evil = [("host", "127.0.0.1:1"), ("origin", "http://evil.example")];
    assert_eq!(ask(&node, "GET", "transport=polling", &evil, "").await.0, StatusCode::FORBIDDEN.as_u16());
    assert_eq!(ask(&node, "GET", "transport=websocket", &evil, "").await.0, StatusCode::FORBIDDEN.as_u16());
    let own = [("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1")];
    assert_eq!(ask(&node, "GET", "transport=polling", &own, "").await.0, 200);
}

fn jwt() -> Config {
    let auth = AuthSettings::Jwt { algorithm: TokenAlgorithm::Hs256, key: b"secret".to_vec() };
    Config { auth, ..Config::default() }
}

fn token(user: &str, seconds: i64, rooms: Value) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let exp = now.saturating_add_signed(seconds);
    let claims = json!({"sub": user, "exp": exp, "rooms": rooms});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(b"secret")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_rooms_and_no_others() {
    let store = Store::start().await;
    let node = Node::start(&store, jwt()).await;
    let shown = token("alice", 60, json!(["read:*", {"pattern": "chat", "publish": true}]));
    let mut alice = Client::connect_with(&node, &json!({"token": shown}).to_string()).await.unwrap();
    alice.subscribe("read:1").await;
    alice.subscribe("chat").await;
    let name = |answer: Value| answer["error"]["name"].as_str().map(str::to_owned);
    let denied = Some("permission_denied".to_owned());
    assert_eq!(name(alice.call(json!(["subscribe", "other"])).await), denied);
    assert_eq!(name(alice.call(json!(["publish", "read:1", "e", 1])).await), denied);
    assert_eq!(name(alice.call(json!(["presence", "other"])).await), denied);
    assert_eq!(alice.call(json!(["publish", "chat", "e", 1])).await["ok"], true);
    let there = alice.call(json!(["presence", "chat"])).await;
    assert_eq!(there["members"], json!([{"id": alice.id, "user": "alice"}]));
    let mut nobody = Client::connect(&node).await;
    assert_eq!(name(nobody.call(json!(["subscribe", "read:1"])).await), denied);
    let shown = token("bob", 60, json!(["read:1"]));
    assert_eq!(nobody.call(json!(["subscribe", "read:1", shown])).await["ok"], true);
    assert_eq!(
        name(nobody.call(json!(["subscribe", "read:1", "rubbish"])).await),
        Some("token_invalid".into())
    );
    let refusal = Client::connect_with(&node, r#"{"token":"rubbish"}"#).await.err().unwrap();
    assert_eq!(refusal["data"]["name"], "token_invalid");
    let old = token("carol", -10, json!([]));
    let refusal = Client::connect_with(&node, &json!({"token": old}).to_string()).await.err().unwrap();
    assert_eq!(refusal["data"]["name"], "token_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token() {
    let store = Store::start().await;
    let node = Node::start(&store, jwt()).await;
    let short = token("alice", 2, json!(["*"]));
    let mut alice = Client::connect_with(&node, &json!({"token": short}).to_string()).await.unwrap();
    alice.subscribe("r").await;
    assert_eq!(alice.closed().await, (4005, "token_expired".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_given_back_to_its_user_alone_and_not_beyond_its_rights() {
    let store = Store::start().await;
    let config = Config { recovery: Duration::from_secs(60), ..jwt() };
    let node = Node::start(&store, config).await;
    let come = async |auth: Value| {
        let mut client = Client::open(&node).await;
        client.send(format!("40{auth}")).await;
        let answer = client.frame().await;
        let said: Value = serde_json::from_str(&answer[2..]).unwrap();
        (client, said)
    };
    let leave = async |client: Client, away: usize| {
        drop(client);
        until("the drop is noticed", || node.gateway.stats().away == away).await;
    };
    let (mut alice, first) = come(json!({"token": token("alice", 60, json!(["r"]))})).await;
    alice.subscribe("r").await;
    leave(alice, 1).await;
    let pid = &first["pid"];
    let (thief, said) = come(json!({"pid": pid, "token": token("bob", 60, json!([]))})).await;
    assert_ne!(&said["pid"], pid, "another user");
    let (_, said) = come(json!({"pid": pid, "token": "rubbish"})).await;
    assert_eq!(said["data"]["name"], "token_invalid");
    let (alice, said) = come(json!({"pid": pid, "token": token("alice", 60, json!([]))})).await;
    assert_eq!(said, first, "her session waited for a good token");
    leave(thief, 1).await;
    leave(alice, 2).await;
    let (mut carol, first) = come(json!({"token": token("carol", 2, json!(["*"]))})).await;
    carol.subscribe("r").await;
    assert_eq!(carol.closed().await.0, 4005);
    let (_, said) = come(json!({"pid": first["pid"], "token": token("carol", 60, json!([]))})).await;
    assert_ne!(said["pid"], first["pid"], "rights that ran out");
}
