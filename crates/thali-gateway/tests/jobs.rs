//! Job rooms, fed with the entries that BullMQ's scripts write.

mod support;

use serde_json::{Value, json};
use support::{Client, Node, Store};
use thali_gateway::Config;

async fn entry(store: &Store, fields: &[&str]) {
    let mut words = vec!["XADD", "bull:q:events", "*"];
    words.extend_from_slice(fields);
    let _: String = store.run(&words).await;
}

fn job(id: &str, state: &str) -> Value {
    json!({"queue": "q", "id": id, "state": state, "progress": null, "returnvalue": null, "failedReason": null})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_life_reaches_its_room_alone() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let (mut one, mut all) = (Client::connect(&node).await, Client::connect(&node).await);
    let answer = one.call(json!(["subscribe", "job:q:1"])).await;
    assert_eq!(answer, json!({"ok": true, "room": "job:q:1", "job": job("1", "unknown")}));
    all.subscribe("queue:q").await;
    entry(&store, &["event", "added", "jobId", "1", "name", "run"]).await;
    entry(&store, &["event", "waiting", "jobId", "1"]).await;
    entry(&store, &["event", "waiting", "jobId", "2"]).await;
    entry(&store, &["event", "active", "jobId", "1", "prev", "waiting"]).await;
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(one.event().await[1].clone());
    }
    assert_eq!(states, [job("1", "added"), job("1", "waiting"), job("1", "active")]);
    entry(&store, &["event", "progress", "jobId", "1", "data", "{\"done\":3}"]).await;
    assert_eq!(one.event().await[1]["progress"], json!({"done": 3}));
    entry(&store, &["event", "completed", "jobId", "1", "returnvalue", "\"AC\"", "prev", "active"]).await;
    let verdict = one.event().await;
    assert_eq!(
        (&verdict[0], &verdict[1]["state"], &verdict[1]["returnvalue"]),
        (&json!("job"), &json!("completed"), &json!("AC"))
    );
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let event = all.event().await;
        seen.push(format!("{} {}", event[1]["id"].as_str().unwrap(), event[1]["state"].as_str().unwrap()));
    }
    assert_eq!(seen, ["1 added", "1 waiting", "2 waiting", "1 active", "1 active", "1 completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_learns_the_verdict() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let set = [
        "HSET",
        "bull:q:1",
        "timestamp",
        "1",
        "progress",
        "80",
        "returnvalue",
        "{\"v\":1}",
        "failedReason",
        "old",
    ];
    let _: i64 = store.run(&set).await;
    let _: i64 = store.run(&["ZADD", "bull:q:completed", "5", "1"]).await;
    entry(&store, &["event", "completed", "jobId", "1", "returnvalue", "{\"v\":1}"]).await;
    let mut client = Client::connect(&node).await;
    let answer = client.call(json!(["subscribe", "job:q:1"])).await;
    let mut expected = job("1", "completed");
    expected["progress"] = json!(80);
    expected["returnvalue"] = json!({"v": 1});
    assert_eq!(answer["job"], expected);
    assert!(client.events_so_far().await.is_empty(), "what the snapshot tells is not told again");
    let table: &[(&[&str], &str)] = &[
        (&["ZADD", "bull:q:failed", "5", "2"], "failed"),
        (&["LPUSH", "bull:q:active", "3"], "active"),
        (&["ZADD", "bull:q:delayed", "5", "4"], "delayed"),
        (&["ZADD", "bull:q:prioritized", "5", "5"], "waiting"),
        (&["LPUSH", "bull:q:wait", "6"], "waiting"),
        (&["ZADD", "bull:q:waiting-children", "5", "7"], "waiting-children"),
    ];
    for (command, state) in table {
        let id = command[command.len() - 1];
        let _: i64 = store.run(&["HSET", &format!("bull:q:{id}"), "timestamp", "1"]).await;
        let _: i64 = store.run(command).await;
        let answer = client.call(json!(["subscribe", format!("job:q:{id}")])).await;
        assert_eq!(answer["job"]["state"], *state, "{answer}");
    }
}

/// Subscribers come while a job moves through its states; whatever moment each hits, the snapshot
/// and the events after it are the job's whole remaining life, without a gap or a step back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_feed_meet_without_gap_or_repetition() {
    const STEPS: u64 = 200;
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let _: i64 = store.run(&["HSET", "bull:q:1", "timestamp", "1", "progress", "0"]).await;
    let address = store.address();
    let worker = tokio::spawn(async move {
        let mut connection = address.connect().await.unwrap();
        for step in 1..=STEPS {
            let mut pipe = redis::pipe();
            pipe.atomic().cmd("HSET").arg("bull:q:1").arg("progress").arg(step).ignore();
            // Named `active`, because of progress only the last of a batch is kept.
            let fields = ["event", "completed", "jobId", "1", "returnvalue"];
            pipe.cmd("XADD").arg("bull:q:events").arg("*").arg(&fields).arg(step).ignore();
            pipe.query_async::<()>(&mut connection).await.unwrap();
        }
    });
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(&node).await;
        let answer = client.call(json!(["subscribe", "job:q:1"])).await;
        clients.push((client, answer["job"]["progress"].as_u64().unwrap()));
    }
    worker.await.unwrap();
    for (mut client, snapshot) in clients {
        for expected in snapshot + 1..=STEPS {
            let event = client.event().await;
            assert_eq!(event[1]["returnvalue"], expected, "after a snapshot at {snapshot}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_goes_on_where_it_was_when_its_connection_is_cut() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    client.subscribe("queue:q").await;
    entry(&store, &["event", "waiting", "jobId", "1"]).await;
    assert_eq!(client.event().await[1]["id"], "1");
    let _: i64 = store.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    entry(&store, &["event", "waiting", "jobId", "2"]).await;
    assert_eq!(client.event().await[1]["id"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_job_rooms_are_refused() {
    let store = Store::start().await;
    let node = Node::start(&store, Config::default()).await;
    let mut client = Client::connect(&node).await;
    for room in ["job:", "job:q", "job:q:", "job::1", "queue:"] {
        let answer = client.call(json!(["subscribe", room])).await;
        assert_eq!(answer["error"]["name"], "room_name_invalid", "{room}");
    }
    let answer = client.call(json!(["publish", "job:q:1", "job", 1])).await;
    assert_eq!(answer["error"]["name"], "room_reserved");
}
