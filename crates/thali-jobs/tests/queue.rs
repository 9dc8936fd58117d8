//! Queues against a real redis-server, checked by looking at what BullMQ's layout demands.

use redis::AsyncCommands;
use serde_json::Value;
use serde_json::value::RawValue;
use std::time::Duration;
use thali_client::StoreAddress;
use thali_jobs::queue::{
    Fault, JobState, NewJob, NewJobs, Order, QueueError, Queues, QueuesConfig, TRANSACTION_JOBS_MAX,
};
use thali_testkit::{Running, start_redis};

struct Bench {
    queues: Queues,
    redis: redis::aio::MultiplexedConnection,
    address: StoreAddress,
    _server: Running,
}

async fn bench() -> Bench {
    let server = start_redis(&[]).unwrap();
    let address = StoreAddress::parse(&format!("redis://{}", server.store)).unwrap();
    let queues = Queues::open(&address, QueuesConfig::default()).unwrap();
    let redis = address.client().get_multiplexed_async_connection().await.unwrap();
    Bench { queues, redis, address, _server: server }
}

impl Bench {
    async fn add(&self, queue: &str, body: &str) -> Result<String, QueueError> {
        let NewJobs::One(job) = NewJobs::parse(body.as_bytes(), 10)? else { panic!("one job") };
        self.queues.add(queue, &job).await
    }

    async fn state(&self, queue: &str, id: &str) -> Option<JobState> {
        self.queues.job(queue, id).await.unwrap().state
    }

    /// What a worker does when it takes a job and fails at it.
    async fn fail(&mut self, queue: &str, id: &str) {
        let key = |part: &str| format!("bull:{queue}:{part}");
        let _: () = self.redis.lrem(key("wait"), 1, id).await.unwrap();
        let _: () = self.redis.zadd(key("failed"), id, 1_700_000_000_000u64).await.unwrap();
        let _: () = self.redis.hset(key(id), "failedReason", "broke").await.unwrap();
        let _: () = self.redis.hset(key(id), "finishedOn", 1_700_000_000_000u64).await.unwrap();
    }
}

#[tokio::test]
async fn added_job_lies_in_the_store_as_bullmq_would_put_it() {
    let mut bench = bench().await;
    let body = r#"{"name":"mail","data":{"to":"a@b.c","n":1.50},"opts":{"attempts":3,"backoff":1000,"keepLogs":5,
        "removeOnComplete":{"age":60,"count":10},"removeOnFail":true,"failParentOnFailure":true,
        "timestamp":1700000000000}}"#;
    let id = bench.add("post", body).await.unwrap();
    assert_eq!(id, "1");
    let wait: Vec<String> = bench.redis.lrange("bull:post:wait", 0, -1).await.unwrap();
    assert_eq!(wait, ["1"]);
    let hash: std::collections::HashMap<String, String> = bench.redis.hgetall("bull:post:1").await.unwrap();
    assert_eq!(hash["name"], "mail");
    assert_eq!(hash["data"], r#"{"to":"a@b.c","n":1.50}"#, "the data's text is kept as it came");
    assert_eq!(hash["timestamp"], "1700000000000");
    let opts: Value = serde_json::from_str(&hash["opts"]).unwrap();
    assert_eq!(
        opts,
        serde_json::json!({"attempts":3,"backoff":{"type":"fixed","delay":1000},"kl":5,"fpof":true,
            "removeOnComplete":{"age":60,"count":10},"removeOnFail":true,"timestamp":1_700_000_000_000u64})
    );
    let marker: Vec<String> = bench.redis.zrange("bull:post:marker", 0, -1).await.unwrap();
    assert_eq!(marker, ["0"], "idle workers are woken");
}

#[tokio::test]
async fn delay_priority_and_lifo_choose_the_place() {
    let mut bench = bench().await;
    bench.add("q", r#"{"name":"a"}"#).await.unwrap();
    bench.add("q", r#"{"name":"b","opts":{"lifo":true}}"#).await.unwrap();
    bench.add("q", r#"{"name":"c","opts":{"priority":7}}"#).await.unwrap();
    bench.add("q", r#"{"name":"d","opts":{"delay":60000,"priority":3}}"#).await.unwrap();
    let wait: Vec<String> = bench.redis.lrange("bull:q:wait", 0, -1).await.unwrap();
    assert_eq!(wait, ["1", "2"], "workers take from the right");
    assert_eq!(bench.state("q", "3").await, Some(JobState::Prioritized));
    assert_eq!(bench.state("q", "4").await, Some(JobState::Delayed));
    let counts = bench.queues.queue("q").await.unwrap().counts;
    assert_eq!((counts.waiting, counts.prioritized, counts.delayed, counts.active), (2, 1, 1, 0));
}

#[tokio::test]
async fn scripts_are_those_that_the_official_crate_loads() {
    let mut bench = bench().await;
    let options = bullmq::QueueOptions::new()
        .connection(bullmq::options::RedisConnectionOptions::new().url(bench.address.url()));
    let official = bullmq::Queue::with_options("q", options).await.unwrap();
    official.add("a", serde_json::json!({})).await.unwrap();
    official.add("b", serde_json::json!({})).priority(1).await.unwrap();
    official.add("c", serde_json::json!({})).delay(Duration::from_secs(60)).await.unwrap();
    let stats = |info: String| -> u64 {
        let line =
            info.lines().find(|line| line.starts_with("number_of_cached_scripts:")).unwrap().to_owned();
        line.split_once(':').unwrap().1.trim().parse().unwrap()
    };
    let before = stats(redis::cmd("INFO").arg("memory").query_async(&mut bench.redis).await.unwrap());
    bench.add("q", r#"{"name":"a"}"#).await.unwrap();
    bench.add("q", r#"{"name":"b","opts":{"priority":1}}"#).await.unwrap();
    bench.add("q", r#"{"name":"c","opts":{"delay":60000}}"#).await.unwrap();
    let after = stats(redis::cmd("INFO").arg("memory").query_async(&mut bench.redis).await.unwrap());
    assert_eq!(before, after, "no script was new to the store");
    let job = official.get_job("5").await.unwrap().unwrap();
    assert_eq!((job.name(), job.priority()), ("b", 1));
}

#[tokio::test]
async fn own_id_and_deduplication_add_once() {
    let bench = bench().await;
    for _ in 0..2 {
        assert_eq!(bench.add("q", r#"{"name":"a","opts":{"jobId":"order-7"}}"#).await.unwrap(), "order-7");
    }
    let first =
        bench.add("q", r#"{"name":"b","opts":{"deduplication":{"id":"x","ttl":60000}}}"#).await.unwrap();
    let again =
        bench.add("q", r#"{"name":"b","opts":{"deduplication":{"id":"x","ttl":60000}}}"#).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(bench.queues.queue("q").await.unwrap().counts.waiting, 2);
}

#[tokio::test]
async fn parent_learns_of_its_child_or_the_child_is_refused() {
    let mut bench = bench().await;
    let missing = bench.add("child", r#"{"name":"c","opts":{"parent":{"id":"nobody","queue":"up"}}}"#).await;
    assert!(matches!(missing, Err(QueueError::NoSuchParent { parent }) if parent == "nobody"));
    bench.add("up", r#"{"name":"p","opts":{"jobId":"p1"}}"#).await.unwrap();
    for queue in ["up", "bull:up"] {
        let body = format!(r#"{{"name":"c","opts":{{"parent":{{"id":"p1","queue":"{queue}"}}}}}}"#);
        bench.add("child", &body).await.unwrap();
    }
    let children: Vec<String> = bench.redis.smembers("bull:up:p1:dependencies").await.unwrap();
    assert_eq!(children.len(), 2);
}

#[tokio::test]
async fn batch_keeps_order_and_survives_a_flushed_script_cache() {
    let mut bench = bench().await;
    let data = RawValue::from_string("{}".to_owned()).unwrap();
    let jobs: Vec<NewJob<'_>> = (0..TRANSACTION_JOBS_MAX + 3).map(|_| NewJob::new("n", &data)).collect();
    for round in 0..2 {
        let ids = bench.queues.add_many("q", &jobs).await.unwrap();
        let first = round * jobs.len() + 1;
        let expected: Vec<String> = (first..first + jobs.len()).map(|id| id.to_string()).collect();
        assert_eq!(ids, expected);
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut bench.redis).await.unwrap();
    }
    assert_eq!(bench.add("q", r#"{"name":"a"}"#).await.unwrap(), (2 * jobs.len() + 1).to_string());
}

#[tokio::test]
async fn batch_with_a_bad_parent_says_who_is_in() {
    let bench = bench().await;
    let body = r#"[{"name":"a"},{"name":"b","opts":{"parent":{"id":"nobody","queue":"q"}}},{"name":"c"}]"#;
    let NewJobs::Many(jobs) = NewJobs::parse(body.as_bytes(), 10).unwrap() else { panic!("many") };
    match bench.queues.add_many("q", &jobs).await {
        Err(QueueError::PartlyAdded { ids, failed: 1, first: 1, reason }) => {
            assert_eq!(ids[1], None);
            assert!(ids[0].is_some() && ids[2].is_some());
            assert!(matches!(*reason, QueueError::NoSuchParent { .. }));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pages_run_in_both_orders() {
    let bench = bench().await;
    for _ in 0..5 {
        bench.add("q", r#"{"name":"a"}"#).await.unwrap();
        bench.add("q", r#"{"name":"a","opts":{"delay":60000}}"#).await.unwrap();
    }
    let ids = async |state, start, end, order| -> Vec<String> {
        let page = bench.queues.jobs("q", state, start, end, order).await.unwrap();
        assert_eq!(page.total, 5);
        page.jobs.into_iter().map(|job| job.id).collect()
    };
    assert_eq!(ids(JobState::Waiting, 0, 1, Order::Asc).await, ["1", "3"]);
    assert_eq!(ids(JobState::Waiting, 0, 1, Order::Desc).await, ["9", "7"]);
    assert_eq!(ids(JobState::Waiting, 3, 10, Order::Asc).await, ["7", "9"]);
    assert!(ids(JobState::Waiting, 5, 10, Order::Asc).await.is_empty());
    assert_eq!(ids(JobState::Delayed, 0, 1, Order::Asc).await, ["2", "4"]);
    assert_eq!(ids(JobState::Delayed, 4, 9, Order::Desc).await, ["2"]);
    let none = bench.queues.jobs("nobody", JobState::Waiting, 0, 1, Order::Asc).await;
    assert!(matches!(none, Err(QueueError::NoSuchQueue { .. })));
}

#[tokio::test]
async fn waiting_jobs_that_an_older_bullmq_parked_are_counted_and_listed() {
    let mut bench = bench().await;
    for _ in 0..2 {
        bench.add("q", r#"{"name":"a"}"#).await.unwrap();
    }
    let _: () = bench.redis.rename("bull:q:wait", "bull:q:paused").await.unwrap();
    bench.add("q", r#"{"name":"a"}"#).await.unwrap();
    assert_eq!(bench.queues.queue("q").await.unwrap().counts.waiting, 3);
    for (order, expected) in [(Order::Asc, ["1", "2", "3"]), (Order::Desc, ["3", "2", "1"])] {
        let page = bench.queues.jobs("q", JobState::Waiting, 0, 9, order).await.unwrap();
        let ids: Vec<&str> = page.jobs.iter().map(|job| &*job.id).collect();
        assert_eq!(ids, expected);
    }
    assert_eq!(bench.state("q", "1").await, Some(JobState::Waiting));
}

#[tokio::test]
async fn job_shows_what_the_worker_left() {
    let mut bench = bench().await;
    let id = bench.add("q", r#"{"name":"a","data":[1],"opts":{"keepLogs":9}}"#).await.unwrap();
    bench.fail("q", &id).await;
    let _: () = bench
        .redis
        .hset_multiple(
            "bull:q:1",
            &[
                ("atm", "2"),
                ("progress", "50"),
                ("stacktrace", r#"["Error: x"]"#),
                ("returnvalue", "not json"),
            ],
        )
        .await
        .unwrap();
    let _: () = bench.redis.rpush("bull:q:1:logs", &["one", "two", "three"]).await.unwrap();
    let job = serde_json::to_value(bench.queues.job("q", &id).await.unwrap()).unwrap();
    assert_eq!(job["state"], "failed");
    assert_eq!(job["failedReason"], "broke");
    assert_eq!(job["attemptsMade"], 2);
    assert_eq!(job["progress"], 50);
    assert_eq!(job["stacktrace"][0], "Error: x");
    assert_eq!(job["returnvalue"], "not json");
    assert_eq!(job["data"], serde_json::json!([1]));
    assert_eq!(job["opts"]["keepLogs"], 9);
    let logs = bench.queues.logs("q", &id, 1, 9).await.unwrap();
    assert_eq!((logs.total, logs.lines), (3, vec!["two".to_owned(), "three".to_owned()]));
    assert!(matches!(bench.queues.job("q", "99").await, Err(QueueError::NoSuchJob { .. })));
    assert!(matches!(bench.queues.logs("q", "99", 0, 9).await, Err(QueueError::NoSuchJob { .. })));
}

#[tokio::test]
async fn retry_promote_and_remove_act_on_the_right_states_only() {
    let mut bench = bench().await;
    let id = bench.add("q", r#"{"name":"a"}"#).await.unwrap();
    let refused = bench.queues.retry("q", &id).await;
    assert!(matches!(refused, Err(QueueError::NotInState { state: "waiting", .. })), "{refused:?}");
    bench.fail("q", &id).await;
    bench.queues.retry("q", &id).await.unwrap();
    assert_eq!(bench.state("q", &id).await, Some(JobState::Waiting));

    let refused = bench.queues.promote("q", &id).await;
    assert!(matches!(refused, Err(QueueError::NotInState { wanted: "delayed", .. })), "{refused:?}");
    let late = bench.add("q", r#"{"name":"a","opts":{"delay":60000}}"#).await.unwrap();
    bench.queues.promote("q", &late).await.unwrap();
    assert_eq!(bench.state("q", &late).await, Some(JobState::Waiting));

    bench.queues.remove("q", &late).await.unwrap();
    assert!(matches!(bench.queues.remove("q", &late).await, Err(QueueError::NoSuchJob { .. })));
    let _: () = bench.redis.set(format!("bull:q:{id}:lock"), "somebody").await.unwrap();
    assert!(matches!(bench.queues.remove("q", &id).await, Err(QueueError::Locked { .. })));
}

#[tokio::test]
async fn pause_resume_clean_and_drain() {
    let mut bench = bench().await;
    for _ in 0..3 {
        bench.add("q", r#"{"name":"a"}"#).await.unwrap();
    }
    bench.queues.pause("q").await.unwrap();
    assert!(bench.queues.queue("q").await.unwrap().paused);
    assert_eq!(bench.queues.queue("q").await.unwrap().counts.waiting, 3);
    bench.queues.resume("q").await.unwrap();
    assert!(!bench.queues.queue("q").await.unwrap().paused);

    bench.fail("q", "1").await;
    assert_eq!(bench.queues.clean("q", JobState::Failed, 0, 100).await.unwrap(), ["1"]);
    assert!(matches!(
        bench.queues.clean("q", JobState::Failed, 0, 0).await,
        Err(QueueError::Invalid(error)) if error.field == "limit"
    ));
    bench.add("q", r#"{"name":"a","opts":{"delay":60000}}"#).await.unwrap();
    bench.queues.drain("q", false).await.unwrap();
    let counts = bench.queues.queue("q").await.unwrap().counts;
    assert_eq!((counts.waiting, counts.delayed), (0, 1));
    bench.queues.drain("q", true).await.unwrap();
    assert_eq!(bench.queues.queue("q").await.unwrap().counts.delayed, 0);
    for result in [
        bench.queues.pause("nobody").await,
        bench.queues.resume("nobody").await,
        bench.queues.drain("nobody", true).await,
        bench.queues.clean("nobody", JobState::Failed, 0, 1).await.map(drop),
    ] {
        assert!(matches!(result, Err(QueueError::NoSuchQueue { .. })));
    }
    let keys: Vec<String> = bench.redis.keys("bull:nobody:*").await.unwrap();
    assert!(keys.is_empty(), "looking at a queue creates nothing: {keys:?}");
}

#[tokio::test]
async fn names_lists_queues_of_others_and_forgets_those_that_are_gone() {
    let mut bench = bench().await;
    bench.add("ours", r#"{"name":"a"}"#).await.unwrap();
    let _: () = bench.redis.hset("bull:theirs:meta", "library", "bullmq:5").await.unwrap();
    let _: () = bench.redis.set("bull:theirs:x:meta", "a job's own key").await.unwrap();
    let _: () = bench.redis.set("bullish:not:meta", "1").await.unwrap();
    let names = bench.queues.names().await.unwrap();
    assert_eq!(names.names, ["ours", "theirs"]);
    assert!(names.complete);
    let _: () = bench.redis.del("bull:theirs:meta").await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while bench.queues.names().await.unwrap().names != ["ours"] {
        assert!(tokio::time::Instant::now() < deadline, "the queue is still listed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn depths_tell_the_age_of_the_oldest_ready_job() {
    let bench = bench().await;
    bench.add("old", r#"{"name":"a","opts":{"timestamp":1700000000000}}"#).await.unwrap();
    bench.add("old", r#"{"name":"a"}"#).await.unwrap();
    bench.add("late", r#"{"name":"a","opts":{"delay":60000}}"#).await.unwrap();
    let names = ["late", "nobody", "old"].map(str::to_owned);
    let depths = bench.queues.depths(&names).await.unwrap();
    assert_eq!(depths.len(), 2);
    assert_eq!((depths[0].queue.counts.delayed, depths[0].oldest_waiting_ms), (1, None));
    assert!(depths[1].oldest_waiting_ms.unwrap() > 1_000_000);
}

#[tokio::test]
async fn queues_live_on_after_the_store_was_killed_and_started_again() {
    let mut server = start_redis(&[]).unwrap();
    let port = server.store.rsplit_once(':').unwrap().1.to_owned();
    let address = StoreAddress::parse(&format!("redis://{}", server.store)).unwrap();
    let queues = Queues::open(&address, QueuesConfig::default()).unwrap();
    let data = RawValue::from_string("{}".to_owned()).unwrap();
    let job = NewJob::new("a", &data);
    queues.add("q", &job).await.unwrap();
    queues.pause("q").await.unwrap();

    server.process.kill9().unwrap();
    let started = std::time::Instant::now();
    for result in [queues.add("q", &job).await.map(drop), queues.pause("q").await, queues.ping().await] {
        assert!(matches!(result, Err(QueueError::StoreAway(_))), "{result:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(15), "failures come soon");

    let mut command = std::process::Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let mut again = thali_testkit::Process::spawn("redis-again", &mut command, server.folder.path()).unwrap();
    again.wait_for_port(&server.store, Duration::from_secs(10)).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !queues.store_is_up() {
        assert!(tokio::time::Instant::now() < deadline, "the watcher finds the store");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    queues.add("q", &job).await.expect("adding works at the first try");
    queues.pause("q").await.expect("managing works at the first try");
    assert!(queues.queue("q").await.unwrap().paused);
}

#[test]
fn faults_name_their_field() {
    let check = |body: &str, field: &str, fault: Fault| match NewJobs::parse(body.as_bytes(), 3) {
        Err(error) => assert_eq!((&*error.field, error.fault), (field, fault), "{body}: {error}"),
        Ok(_) => panic!("{body} was taken"),
    };
    check("", "", Fault::Malformed);
    check("{", "", Fault::Malformed);
    check(r#"{"name":"a"} x"#, "", Fault::Malformed);
    check("7", "", Fault::WrongType);
    check("{}", "name", Fault::Missing);
    check(r#"{"name":7}"#, "name", Fault::WrongType);
    check(r#"{"name":""}"#, "name", Fault::Invalid);
    check(r#"{"name":"a","date":{}}"#, "date", Fault::Unknown);
    check(r#"{"name":"a","name":"b"}"#, "name", Fault::Invalid);
    check(r#"{"name":"a","opts":[]}"#, "opts", Fault::WrongType);
    check(r#"{"name":"a","opts":{"dealy":1}}"#, "opts.dealy", Fault::Unknown);
    check(r#"{"name":"a","opts":{"delay":"1"}}"#, "opts.delay", Fault::WrongType);
    check(r#"{"name":"a","opts":{"delay":-1}}"#, "opts.delay", Fault::WrongType);
    check(r#"{"name":"a","opts":{"delay":1.5}}"#, "opts.delay", Fault::Invalid);
    check(r#"{"name":"a","opts":{"delay":1e15}}"#, "opts.delay", Fault::Invalid);
    check(r#"{"name":"a","opts":{"priority":2097153}}"#, "opts.priority", Fault::Invalid);
    check(r#"{"name":"a","opts":{"lifo":1}}"#, "opts.lifo", Fault::WrongType);
    check(r#"{"name":"a","opts":{"jobId":"12"}}"#, "opts.jobId", Fault::Invalid);
    check(
        r#"{"name":"a","opts":{"backoff":{"type":"fixed","dela":1}}}"#,
        "opts.backoff.dela",
        Fault::Unknown,
    );
    check(r#"{"name":"a","opts":{"backoff":{"delay":1}}}"#, "opts.backoff.type", Fault::Missing);
    check(
        r#"{"name":"a","opts":{"backoff":{"type":"fixed","delay":"x"}}}"#,
        "opts.backoff.delay",
        Fault::WrongType,
    );
    check(
        r#"{"name":"a","opts":{"backoff":{"type":"fixed","jitter":2}}}"#,
        "opts.backoff.jitter",
        Fault::Invalid,
    );
    check(r#"{"name":"a","opts":{"backoff":"fixed"}}"#, "opts.backoff", Fault::WrongType);
    check(r#"{"name":"a","opts":{"removeOnComplete":"yes"}}"#, "opts.removeOnComplete", Fault::WrongType);
    check(r#"{"name":"a","opts":{"removeOnFail":{"limit":1}}}"#, "opts.removeOnFail", Fault::Invalid);
    check(r#"{"name":"a","opts":{"parent":{"id":"1"}}}"#, "opts.parent.queue", Fault::Missing);
    check(r#"{"name":"a","opts":{"deduplication":{"id":""}}}"#, "opts.deduplication.id", Fault::Invalid);
    check(
        r#"{"name":"a","opts":{"failParentOnFailure":true,"ignoreDependencyOnFailure":true}}"#,
        "opts.ignoreDependencyOnFailure",
        Fault::Invalid,
    );
    check(r#"[{"name":"a"},{"name":"b","opts":{"delay":true}}]"#, "[1].opts.delay", Fault::WrongType);
    check(r#"[{"name":"a"},{"name":""}]"#, "[1].name", Fault::Invalid);
    check(r#"[{"name":"a"},7]"#, "[1]", Fault::WrongType);
    check(r#"[{"name":"a"},{"name":"a"},{"name":"a"},{"name":"a"}]"#, "", Fault::Invalid);
    check(r#"{"name":"a","data":"xx","opts":{"sizeLimit":3}}"#, "data", Fault::Invalid);
    let deep = format!(r#"{{"name":"a","data":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    check(&deep, "data", Fault::Invalid);
    assert!(NewJobs::parse(b"{\"name\":\"a\",\"data\":\"\xff\"}", 3).is_err());
}

#[test]
fn whole_numbers_may_be_written_as_json_allows() {
    for delay in ["1000", "1000.0", "1e3"] {
        let body =
            format!(r#"{{"name":"a","opts":{{"delay":{delay},"backoff":{delay},"removeOnFail":{delay}}}}}"#);
        let Ok(NewJobs::One(job)) = NewJobs::parse(body.as_bytes(), 1) else { panic!("{body}") };
        assert_eq!(job.opts.delay, Some(1000));
    }
}
