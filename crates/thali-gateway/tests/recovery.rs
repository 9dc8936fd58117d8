//! A client that drops off finds its session again, as a whole or not at all.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Node, Store, until};
use thali_gateway::Config;

fn on() -> Config {
    Config { recovery: Duration::from_secs(60), ..Config::default() }
}

/// A client with the secret that it was given.
async fn come(node: &Node, auth: Value) -> (Client, Value) {
    let mut client = Client::open(node).await;
    client.send(format!("40{auth}")).await;
    let answer = client.frame().await;
    let greeting: Value = serde_json::from_str(answer.strip_prefix("40").unwrap()).unwrap();
    client.id = greeting["sid"].as_str().unwrap().to_owned();
    (client, greeting)
}

async fn drop_off(node: &Node, client: Client) {
    let away = node.gateway.stats().away;
    drop(client);
    until("the drop is noticed", || node.gateway.stats().away == away + 1).await;
}

fn data(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event[1]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_has_its_id_its_rooms_and_what_it_missed() {
    let store = Store::start().await;
    let node = Node::start(&store, on()).await;
    let mut speaker = Client::connect(&node).await;
    let (mut client, greeting) = come(&node, json!({})).await;
    client.subscribe("r").await;
    speaker.call(json!(["publish", "r", "e", 1])).await;
    let seen = client.event().await;
    assert_eq!(seen[1], 1);
    drop_off(&node, client).await;
    speaker.call(json!(["publish", "r", "e", 2])).await;
    speaker.call(json!(["publish", "elsewhere", "e", 3])).await;
    store.run::<()>(&["PUBLISH", "room:r", "4"]).await;
    until("it came over the bus", || node.gateway.stats().bus_heard == 1).await;
    let (mut client, again) = come(&node, json!({"pid": greeting["pid"], "offset": seen[2]})).await;
    assert_eq!(again, greeting, "the same id and secret");
    let missed = [client.event().await, client.event().await];
    assert_eq!(data(&missed), [&json!(2), &json!(4)]);
    assert_eq!(missed[1][0], "message");
    speaker.call(json!(["publish", "r", "e", 5])).await;
    let live = client.event().await;
    assert_eq!(live[1], 5);
    let members = speaker.call(json!(["presence", "r"])).await;
    assert_eq!(members["members"], json!([{"id": client.id}]));
    // A second time, with nothing missed.
    drop_off(&node, client).await;
    let (mut client, _) = come(&node, json!({"pid": greeting["pid"], "offset": live[2]})).await;
    assert_eq!(client.events_so_far().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_before_its_end_was_noticed_takes_over() {
    let store = Store::start().await;
    let node = Node::start(&store, on()).await;
    let (mut first, greeting) = come(&node, json!({})).await;
    first.subscribe("r").await;
    let mut speaker = Client::connect(&node).await;
    // It sees nothing of this: its wire is dead, though nobody knows.
    speaker.call(json!(["publish", "r", "e", 1])).await;
    let (mut second, again) = come(&node, json!({"pid": greeting["pid"]})).await;
    assert_eq!(again, greeting);
    assert_eq!(second.event().await[1], 1);
    until("the former connection ends", || node.gateway.stats().connections == 2).await;
    assert_eq!(node.gateway.stats().rooms, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_given_whole_is_not_given() {
    let store = Store::start().await;
    let node = Node::start(&store, Config { recovery_bytes_max: 4_000, ..on() }).await;
    let other = Node::start(&store, on()).await;
    let mut speaker = Client::connect(&node).await;
    let refused = async |node: &Node, auth: Value, pid: &Value| {
        let (mut client, greeting) = come(node, auth).await;
        assert_ne!(&greeting["pid"], pid);
        speaker.call(json!(["publish", "r", "e", "late"])).await;
        assert_eq!(client.events_so_far().await, Vec::<Value>::new(), "it is in no room");
    };
    let mut speaker2 = Client::connect(&node).await;
    let mut away = async |offset: Option<&str>| {
        let (mut client, greeting) = come(&node, json!({})).await;
        client.subscribe("r").await;
        speaker2.call(json!(["publish", "r", "e", 1])).await;
        let seen = client.event().await;
        drop_off(&node, client).await;
        let offset = offset.map_or(seen[2].clone(), Value::from);
        (json!({"pid": greeting["pid"], "offset": offset}), greeting["pid"].clone())
    };
    let mut refused = refused;
    for nonsense in ["", "x", "nodeid.1", "18446744073709551616"] {
        let (auth, pid) = away(Some(nonsense)).await;
        refused(&node, auth, &pid).await;
    }
    let (auth, pid) = away(None).await;
    refused(&other, auth.clone(), &pid).await;
    refused(&node, json!({"pid": "guessed", "offset": auth["offset"]}), &pid).await;
    // More than the history holds.
    for _ in 0..3 {
        say(&node, "x".repeat(2_000)).await;
    }
    refused(&node, auth, &pid).await;
    // The rooms of who was refused, that is; the clients that asked are in none.
    until("rooms are let go", || node.gateway.stats().rooms == 0).await;
}

async fn say(node: &Node, text: String) {
    let mut speaker = Client::connect(node).await;
    speaker.call(json!(["publish", "r", "e", text])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_have_their_time_and_goodbyes_leave_none() {
    let store = Store::start().await;
    let node =
        Node::start(&store, Config { recovery: Duration::from_millis(200), ..Config::default() }).await;
    let (mut client, greeting) = come(&node, json!({})).await;
    client.subscribe("r").await;
    drop_off(&node, client).await;
    assert_eq!(node.gateway.stats().rooms, 1, "held");
    until("its time is over", || node.gateway.stats().away == 0).await;
    until("its room is let go", || node.gateway.stats().rooms == 0).await;
    let (mut client, again) = come(&node, json!({"pid": greeting["pid"]})).await;
    assert_ne!(again["pid"], greeting["pid"]);
    client.subscribe("r").await;
    client.send("41".into()).await;
    until("it has left", || node.gateway.stats().rooms == 0).await;
    drop(client);
    until("the session is over", || node.gateway.stats().connections == 0).await;
    assert_eq!(node.gateway.stats().away, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_on_the_bus_is_not_hidden() {
    let mut store = Store::start().await;
    let node = Node::start(&store, on()).await;
    let (mut client, greeting) = come(&node, json!({})).await;
    client.subscribe("r").await;
    drop_off(&node, client).await;
    store.kill();
    until("the loss is noticed", || !node.gateway.stats().bus_up).await;
    store.resume().await;
    until("the bus is back", || node.gateway.stats().bus_gaps == 1).await;
    let (_, again) = come(&node, json!({"pid": greeting["pid"]})).await;
    assert_ne!(again["pid"], greeting["pid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_rooms_go_on_with_the_present_state() {
    let store = Store::start().await;
    let node = Node::start(&store, on()).await;
    let (mut client, greeting) = come(&node, json!({})).await;
    store.run::<()>(&["HSET", "bull:q:7", "name", "n", "timestamp", "1"]).await;
    store.run::<()>(&["LPUSH", "bull:q:active", "7"]).await;
    client.subscribe("job:q:7").await;
    drop_off(&node, client).await;
    store.run::<()>(&["LREM", "bull:q:active", "1", "7"]).await;
    store.run::<()>(&["HSET", "bull:q:7", "returnvalue", "42"]).await;
    store.run::<()>(&["ZADD", "bull:q:completed", "5", "7"]).await;
    let (mut client, again) = come(&node, json!({"pid": greeting["pid"]})).await;
    assert_eq!(again, greeting);
    let event = client.event().await;
    assert_eq!(
        (&event[0], &event[1]["state"], &event[1]["returnvalue"]),
        (&json!("job"), &json!("completed"), &json!(42))
    );
    // What a whole queue said meanwhile is not kept: such a session begins anew.
    client.subscribe("queue:q").await;
    drop_off(&node, client).await;
    let (_, fresh) = come(&node, json!({"pid": greeting["pid"]})).await;
    assert_ne!(fresh["pid"], greeting["pid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_nothing_changes() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let (mut client, greeting) = come(&node, json!({"pid": "x", "offset": "y"})).await;
    assert_eq!(greeting, json!({"sid": client.id}));
    client.subscribe("r").await;
    client.call(json!(["publish", "r", "e", 1])).await;
    assert_eq!(client.event().await, json!(["e", 1]));
}
