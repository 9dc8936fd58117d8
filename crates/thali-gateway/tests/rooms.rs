//! Rooms over several nodes on one store.

mod support;

use serde_json::json;
use support::{Client, Node, Store, until, until_async};
use thali_gateway::Config;

#[tokio::test(flavor = "multi_thread")]
async fn a_published_event_reaches_the_room_on_every_node() {
    let store = Store::start().await;
    let (here, there) =
        (Node::start(&store, Config::default()).await, Node::start(&store, Config::default()).await);
    let (mut near, mut far) = (Client::connect(&here).await, Client::connect(&there).await);
    let mut outside = Client::connect(&there).await;
    near.subscribe("chat").await;
    far.subscribe("chat").await;
    let data = json!({"text": "h\u{e9}\"", "n": [1, -2, 3.5, null, true]});
    assert_eq!(near.call(json!(["publish", "chat", "said", data])).await, json!({"ok": true}));
    assert_eq!(near.event().await, json!(["said", data]), "to its publisher");
    assert_eq!(far.event().await, json!(["said", data]), "to the other node");
    assert!(outside.events_so_far().await.is_empty(), "to nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_publishes_to_every_node() {
    let store = Store::start().await;
    let (here, there) =
        (Node::start(&store, Config::default()).await, Node::start(&store, Config::default()).await);
    let mut far = Client::connect(&there).await;
    far.subscribe("orders").await;
    let data = serde_json::value::to_raw_value(&json!({"id": 7})).unwrap();
    here.gateway.publish("orders", "created", &data).await.unwrap();
    assert_eq!(far.event().await, json!(["created", {"id": 7}]));
    let refused = here.gateway.publish("job:q:1", "created", &data).await.unwrap_err();
    assert_eq!(refused.code.name, "room_reserved");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_publish_arrives_as_message() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    client.subscribe("news").await;
    let _: i64 = store.run(&["PUBLISH", "room:news", r#"{"a": [1]}"#]).await;
    assert_eq!(client.event().await, json!(["message", {"a": [1]}]));
    let _: i64 = store.run(&["PUBLISH", "room:news", "not JSON"]).await;
    assert_eq!(client.event().await, json!(["message", "not JSON"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_heard_from_its_first_member_until_after_its_last() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let listeners = || async {
        let counts: Vec<redis::Value> = store.run(&["PUBSUB", "NUMSUB", "room:r"]).await;
        redis::from_redis_value::<i64>(counts[1].clone()).unwrap()
    };
    let mut client = Client::connect(&node).await;
    assert_eq!(listeners().await, 0);
    client.subscribe("r").await;
    assert_eq!(listeners().await, 1, "live before the acknowledgement");
    client.call(json!(["unsubscribe", "r"])).await;
    assert_eq!(listeners().await, 1, "still, for a quick return");
    until_async("the subscription ends", || async { listeners().await == 0 }).await;
    client.subscribe("r").await;
    drop(client);
    until("the socket is gone", || node.gateway.stats().connections == 0).await;
    until_async("the subscription ends", || async { listeners().await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emitters_bytes_reach_rooms_and_single_sockets() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    client.subscribe("r").await;
    let packet = |room: &str| {
        let mut data =
            b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x92\xa1e\x05\xa3nsp\xa1/\x83\xa5rooms".to_vec();
        if room.is_empty() {
            data.push(0x90);
        } else {
            data.push(0x91);
            data.push(0xa0 | room.len() as u8);
            data.extend_from_slice(room.as_bytes());
        }
        data.extend_from_slice(b"\xa5flags\x80\xa6except\x90");
        data
    };
    let mut connection = store.address().connect().await.unwrap();
    let id = client.id.clone();
    for (channel, room) in [
        ("socket.io#/#r#".to_owned(), "r"),
        (format!("socket.io#/#{id}#"), &id),
        ("socket.io#/#".to_owned(), ""),
    ] {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&channel).arg(packet(room));
        let heard: i64 = command.query_async(&mut connection).await.unwrap();
        assert_eq!(heard, 1, "{channel}");
        assert_eq!(client.event().await, json!(["e", 5]), "{channel}");
    }
    let _: i64 = store.run(&["PUBLISH", "socket.io#/#r#", "rubbish"]).await;
    until("rubbish is counted", || node.gateway.stats().bus_unreadable == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_questions_are_answered() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    client.subscribe("r").await;
    let (pubsub, mut events) = thali_client::PubSub::open(store.address());
    let topic = thali_client::Topic::Channel("socket.io-response#/#".into());
    pubsub.subscribe(vec![topic]).unwrap().live().await.ok();
    let mut ask = async |request: serde_json::Value| {
        let _: i64 = store.run(&["PUBLISH", "socket.io-request#/#", &request.to_string()]).await;
        loop {
            match events.recv().await.unwrap() {
                thali_client::PubSubEvent::Message(message) => {
                    return serde_json::from_slice::<serde_json::Value>(message.get_payload_bytes()).unwrap();
                }
                _ => continue,
            }
        }
    };
    let fetched =
        ask(json!({"uid": "x", "requestId": "a", "type": 5, "opts": {"rooms": ["r"], "except": []}})).await;
    assert_eq!(fetched["sockets"][0]["id"], client.id);
    assert_eq!(fetched["sockets"][0]["rooms"], json!([client.id, "r"]));
    let rooms = ask(json!({"uid": "x", "requestId": "b", "type": 1})).await;
    assert_eq!(rooms, json!({"requestId": "b", "rooms": ["r", client.id]}));
    let joined = ask(json!({"uid": "x", "requestId": "c", "type": 2, "sid": client.id, "room": "vip"})).await;
    assert_eq!(joined, json!({"requestId": "c"}));
    let sockets = ask(json!({"uid": "x", "requestId": "d", "type": 0, "rooms": ["vip"]})).await;
    assert_eq!(sockets["sockets"], json!([client.id]));
    let gone = ask(json!({"uid": "x", "requestId": "e", "type": 4, "sid": client.id, "close": true})).await;
    assert_eq!(gone, json!({"requestId": "e"}));
    assert_eq!(client.frame().await, "41");
    assert_eq!(client.closed().await, (4505, "disconnected".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_covers_all_nodes_and_forgets_dead_ones() {
    let store = Store::start().await;
    let here = Node::start(&store, Config::default()).await;
    let there = Node::start(&store, Config::default()).await;
    let (mut near, mut far) = (Client::connect(&here).await, Client::connect(&there).await);
    near.subscribe("r").await;
    far.subscribe("r").await;
    let answer = near.call(json!(["presence", "r"])).await;
    assert_eq!((&answer["ok"], &answer["count"]), (&json!(true), &json!(2)), "{answer}");
    // What is left when a node dies: its members, and soon not its sign of life.
    let nodes: Vec<String> = store.run(&["KEYS", "thali:node:*"]).await;
    assert_eq!(nodes.len(), 2);
    let far_node = nodes.iter().find(|key| far.id.starts_with(key.rsplit(':').next().unwrap())).unwrap();
    let _: i64 = store.run(&["DEL", far_node]).await;
    let answer = near.call(json!(["presence", "r"])).await;
    assert_eq!(answer["members"], json!([{"id": near.id}]));
    let left: i64 = store.run(&["HLEN", "thali:presence:/:r"]).await;
    assert_eq!(left, 1, "the reader clears up");
    near.call(json!(["unsubscribe", "r"])).await;
    assert_eq!(near.call(json!(["presence", "r"])).await["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_comes_back_after_the_store_was_away() {
    let mut store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    client.subscribe("r").await;
    store.kill();
    until("the loss is seen", || !node.gateway.stats().bus_up).await;
    let refused = client.call(json!(["subscribe", "other"])).await;
    assert_eq!(refused["error"]["name"], "store_unavailable", "{refused}");
    assert_eq!(refused["error"]["retry"], true);
    store.resume().await;
    until("the bus is up", || node.gateway.stats().bus_up).await;
    assert_eq!(node.gateway.stats().bus_gaps, 1, "and the gap is not hidden");
    let heard: i64 = store.run(&["PUBLISH", "room:r", "1"]).await;
    assert_eq!(heard, 1, "subscribed again");
    assert_eq!(client.event().await, json!(["message", 1]));
    let answer = client.call(json!(["publish", "r", "e", 2])).await;
    assert_eq!(answer, json!({"ok": true}));
}
