//! Workers against a stock redis-server: jobs end as they should, whatever dies in between.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bullmq::options::RedisConnectionOptions;
use bullmq::{JobState, Queue, QueueOptions};
use futures_util::StreamExt;
use serde_json::{Value, json};
use thali_client::StoreAddress;
use thali_jobs::exec::{self, ExecConfig};
use thali_jobs::worker::{JobError, Worker, WorkerConfig};

/// A redis-server of one test, with a folder and a port of its own.
struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Redis {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { folder: tempfile::tempdir().unwrap(), port, child: None };
        redis.run();
        redis
    }

    /// Every write is synced, so that nothing acknowledged is lost when the server is killed.
    fn run(&mut self) {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn address(&self) -> StoreAddress {
        StoreAddress::parse(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    async fn queue(&self, name: &str) -> Queue {
        let connection = RedisConnectionOptions::new().url(self.address().url());
        Queue::with_options(name, QueueOptions { connection, ..QueueOptions::default() }).await.unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn panic(why: &str) -> String {
    panic!("{why}")
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !is_so().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn finished(queue: &Queue, id: &str) -> bullmq::Job {
    until("the job ends", || async {
        matches!(queue.get_job_state(id).await, Ok(JobState::Completed | JobState::Failed))
    })
    .await;
    queue.get_job(id).await.unwrap().unwrap()
}

fn quick(queue: &str, concurrency: usize) -> WorkerConfig {
    WorkerConfig { lock_ms: 2_000, stalled_interval_ms: 500, ..WorkerConfig::new(queue, concurrency) }
}

fn shell(redis: &Redis, queue: &str, code: &str) -> ExecConfig {
    let mut config = ExecConfig::new(redis.address(), queue, ["sh", "-c", code]);
    config.directory = Some(PathBuf::from("/usr"));
    config.read_only = true;
    config.timeout = Duration::from_secs(5);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn command_gets_the_job_and_gives_result_progress_and_logs() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let code = "echo '{\"progress\":50}' >&3; echo '{\"log\":\"half\"}' >&3; echo '{\"progress\":{\"done\":1}}' >&3
        printf '{\"in\":'; cat; printf ',\"who\":\"%s %s %s %s\"}' $THALI_JOB_QUEUE $THALI_JOB_NAME $THALI_JOB_ID $THALI_JOB_ATTEMPT";
    let worker = exec::start(shell(&redis, "q", code)).await.unwrap();
    let job = queue.add("greet", json!({"a": [1, 2]})).await.unwrap();
    let done = finished(&queue, job.id()).await;
    let value: Value = serde_json::from_str(done.returnvalue()).unwrap();
    assert_eq!(value, json!({"in": {"a": [1, 2]}, "who": format!("q greet {} 1", job.id())}));
    assert_eq!(serde_json::to_value(done.progress()).unwrap(), json!({"done": 1}));
    assert_eq!(queue.get_job_logs(job.id(), 0, -1, true).await.unwrap().0, ["half"]);
    assert_eq!(worker.drain(Duration::from_secs(1)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_gets_data_that_rust_cannot_hold_as_it_was_stored() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let mut store = redis.address().client().get_multiplexed_async_connection().await.unwrap();
    let mut jobs = Vec::new();
    for data in ["1e99999", "\"\\ud800\"", "null"] {
        let job = queue.add("x", json!({})).await.unwrap();
        let key = format!("bull:q:{}", job.id());
        redis::cmd("HSET").arg(key).arg("data").arg(data).exec_async(&mut store).await.unwrap();
        jobs.push((job, data));
    }
    let worker = exec::start(shell(&redis, "q", "printf 'got '; cat")).await.unwrap();
    for (job, data) in jobs {
        let done = finished(&queue, job.id()).await;
        assert_eq!(serde_json::from_str::<String>(done.returnvalue()).unwrap(), format!("got {data}"));
    }
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_at_the_start() {
    let redis = Redis::start();
    let refusal = async |config: ExecConfig| match exec::start(config).await {
        Ok(_) => "started".to_owned(),
        Err(error) => error.to_string(),
    };
    let mut config = shell(&redis, "q", "");
    config.command = vec!["/nonexistent".into()];
    assert_eq!(refusal(config.clone()).await, "no command '/nonexistent' in /usr");
    config.command = vec!["no-such-program".into()];
    assert!(refusal(config.clone()).await.starts_with("no command 'no-such-program' in /usr/local/bin:"));
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("run.sh");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    config.command = vec![script.clone().into()];
    assert!(refusal(config.clone()).await.starts_with("no command"), "it is not executable");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = refusal(config.clone()).await;
    assert!(refused.contains("executing it failed") && refused.contains("--read"), "{refused}");
    let sound = shell(&redis, "q", "");
    for (config, says) in [
        (ExecConfig { queue: "a:b".into(), ..sound.clone() }, "':'"),
        (ExecConfig { queue: String::new(), ..sound.clone() }, "queue"),
        (ExecConfig { timeout: Duration::ZERO, ..sound.clone() }, "--timeout"),
        (ExecConfig { memory_bytes: 0, ..sound.clone() }, "--memory"),
    ] {
        let refused = refusal(config).await;
        assert!(refused.contains(says), "{refused}");
    }
    let address = StoreAddress::parse("redis://:s3cret@127.0.0.1:1").unwrap();
    let refused = refusal(ExecConfig { store: address, ..shell(&redis, "q", "") }).await;
    assert!(refused.contains("redis://…@127.0.0.1:1 cannot be reached"), "{refused}");
}

/// Only root's boxes have a user of their own, who may not enter root's folders.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_the_boxs_user_may_not_enter_is_refused_at_the_start() {
    if !thali_sandbox::probe().root {
        return;
    }
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let config = ExecConfig { directory: Some(folder.path().into()), ..shell(&redis, "q", "true") };
    let refused = match exec::start(config.clone()).await {
        Ok(_) => "started".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("may not enter the working folder"), "{refused}");
    assert!(refused.contains("--directory") && refused.contains("--keep-user"), "{refused}");
    let worker = exec::start(ExecConfig { keep_user: true, ..config }).await.unwrap();
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_command_is_tried_again_and_then_fails_with_its_words() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let worker = exec::start(shell(&redis, "q", "echo broken pipe dream >&2; exit 7")).await.unwrap();
    let job = queue.add("x", json!({})).attempts(3).await.unwrap();
    let done = finished(&queue, job.id()).await;
    assert_eq!(done.failed_reason(), "exit status 7: broken pipe dream");
    assert_eq!(done.attempts_made(), 3);
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn untrusted_command_meets_its_limits() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let mut config = shell(&redis, "q", "eval \"$(cat | tr -d '\\042')\"");
    config.timeout = Duration::from_millis(500);
    config.network = thali_sandbox::Network::None;
    config.concurrency = 4;
    let worker = exec::start(config).await.unwrap();
    for (code, reason) in [
        ("sleep 60", "timed out after 500ms"),
        ("cat /etc/passwd", "exit status 1: cat: /etc/passwd: Permission denied"),
        ("echo x > /usr/x", "Permission denied"),
        ("yes", "wrote more output than is allowed"),
        ("kill -9 $$", "ended by signal 9"),
    ] {
        let job = queue.add("x", json!(code)).await.unwrap();
        let done = finished(&queue, job.id()).await;
        assert!(done.failed_reason().contains(reason), "{code}: {}", done.failed_reason());
    }
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_lets_jobs_end_and_gives_the_rest_back() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let mut config = shell(&redis, "q", "eval \"$(cat | tr -d '\\042')\"; echo done");
    config.concurrency = 2;
    config.timeout = Duration::from_secs(60);
    let worker = exec::start(config.clone()).await.unwrap();
    let short = queue.add("x", json!("sleep 0.7")).await.unwrap();
    let long = queue.add("x", json!("sleep 30")).await.unwrap();
    until("both run", || async { worker.active().await == 2 }).await;
    assert_eq!(worker.drain(Duration::from_millis(1500)).await, 1);
    assert_eq!(queue.get_job_state(short.id()).await.unwrap(), JobState::Completed);
    assert_eq!(queue.get_job_state(long.id()).await.unwrap(), JobState::Waiting);
    let long = queue.get_job(long.id()).await.unwrap().unwrap();
    assert_eq!(long.attempts_made(), 0);
    let another = exec::start(config).await.unwrap();
    until("another worker takes it", || async { another.active().await == 1 }).await;
    another.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_announced() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let mut listener = redis.address().client().get_async_pubsub().await.unwrap();
    listener.subscribe("room:feed").await.unwrap();
    let mut config = shell(&redis, "q", "echo 7");
    config.announce = Some(exec::Announce {
        channel: "room:feed".into(),
        message: |job, result| Some(json!({ "id": job.id(), "result": result })),
    });
    let worker = exec::start(config).await.unwrap();
    let job = queue.add("x", json!({})).await.unwrap();
    let heard: String = listener.on_message().next().await.unwrap().get_payload().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&heard).unwrap(), json!({ "id": job.id(), "result": 7 }));
    worker.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_worker_takes_no_more_jobs() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let handler = |_, _| async { Ok(json!(1)) };
    let worker = Worker::start(&redis.address(), quick("q", 1), handler).await.unwrap();
    let job = queue.add("x", json!({})).await.unwrap();
    finished(&queue, job.id()).await;
    drop(worker);
    until("its connection is gone", || async { queue.get_workers_count().await.unwrap() == 0 }).await;
    let job = queue.add("x", json!({})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(queue.get_job_state(job.id()).await.unwrap(), JobState::Waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_of_a_handler_fails_the_job() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let handler = |_, _| async { Err(JobError::Failed(panic("on purpose"))) };
    let worker = Worker::start(&redis.address(), quick("q", 1), handler).await.unwrap();
    let job = queue.add("x", json!({})).await.unwrap();
    let done = finished(&queue, job.id()).await;
    assert!(done.failed_reason().contains("on purpose"), "{}", done.failed_reason());
    worker.drain(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_goes_on_after_the_store_was_killed() {
    let mut redis = Redis::start();
    let queue = redis.queue("q").await;
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let handler = {
        let (runs, seen) = (runs.clone(), seen.clone());
        move |job: thali_jobs::worker::Job, _| {
            let (runs, seen) = (runs.clone(), seen.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                runs.fetch_add(1, Ordering::Relaxed);
                seen.lock().unwrap().insert(job.id().to_owned());
                Ok::<_, JobError>(json!(1))
            }
        }
    };
    let worker = Worker::start(&redis.address(), quick("q", 10), handler).await.unwrap();
    for round in 0..3 {
        for number in 0..100 {
            // The same id again adds nothing, so a lost answer may be asked for again.
            let id = format!("r{round}-{number}");
            until("the job is added", || async { queue.add("x", json!({})).job_id(&id).await.is_ok() }).await;
        }
        let started = runs.load(Ordering::Relaxed);
        until("some run", || async { runs.load(Ordering::Relaxed) > started + 20 }).await;
        redis.kill();
        tokio::time::sleep(Duration::from_millis(700)).await;
        redis.run();
        let back = Instant::now();
        let before = runs.load(Ordering::Relaxed);
        until("jobs run again", || async { runs.load(Ordering::Relaxed) > before }).await;
        println!("round {round}: jobs run again {:?} after the store was back", back.elapsed());
    }
    until("all are done", || async {
        queue.get_job_counts().await.is_ok_and(|counts| counts.completed == 300)
    })
    .await;
    assert_eq!(seen.lock().unwrap().len(), 300);
    println!("run twice: {}", runs.load(Ordering::Relaxed) - 300);
    worker.drain(Duration::from_secs(1)).await;
}

/// Not a claim: the worker process that the next tests start and end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests"]
async fn helper_works() {
    let Ok(url) = std::env::var("THALI_TEST_STORE") else { return };
    let store = StoreAddress::parse(&url).unwrap();
    if std::env::var_os("THALI_TEST_EXEC").is_some() {
        let mut config = ExecConfig::new(store, "q", ["sh", "-c", "sleep 0.5; echo done"]);
        config.directory = Some(PathBuf::from("/usr"));
        config.read_only = true;
        exec::run(config).await.unwrap();
        return;
    }
    let mut connection = store.connect().await.unwrap();
    redis::cmd("INCR").arg("workers").exec_async(&mut connection).await.unwrap();
    let handler = move |job: thali_jobs::worker::Job, _| {
        let mut connection = connection.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = redis::cmd("HINCRBY").arg("runs").arg(job.id()).arg(1).exec_async(&mut connection).await;
            Ok::<_, JobError>(json!("done"))
        }
    };
    let _worker = Worker::start(&store, quick("q", 8), handler).await.unwrap();
    std::future::pending::<()>().await;
}

fn helper(redis: &Redis, exec: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_works", "--ignored"]).env("THALI_TEST_STORE", redis.address().url());
    if exec {
        command.env("THALI_TEST_EXEC", "1");
    }
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_killed_workers_come_back() {
    const JOBS: usize = 500;
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let mut connection = redis.address().connect().await.unwrap();
    let mut workers = vec![helper(&redis, false), helper(&redis, false)];
    for number in 0..JOBS {
        queue.add("x", json!(number)).await.unwrap();
    }
    for kills in 0..4 {
        let ran = |connection: redis::aio::ConnectionManager| async move {
            let mut connection = connection;
            redis::cmd("HLEN").arg("runs").query_async::<usize>(&mut connection).await.unwrap()
        };
        until("some jobs ran", || async { ran(connection.clone()).await >= 60 * (kills + 1) }).await;
        let mut victim = workers.remove(0);
        victim.kill().unwrap();
        victim.wait().unwrap();
        workers.push(helper(&redis, false));
    }
    until("all are done", || async { queue.get_job_counts().await.unwrap().completed == JOBS as u64 }).await;
    let counts = queue.get_job_counts().await.unwrap();
    assert_eq!((counts.failed, counts.active, counts.waiting), (0, 0, 0));
    let runs: Vec<usize> = redis::cmd("HVALS").arg("runs").query_async(&mut connection).await.unwrap();
    println!("{} jobs, {} run twice", runs.len(), runs.iter().filter(|&&count| count > 1).count());
    assert_eq!(runs.len(), JOBS);
    for mut worker in workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_the_running_command_end() {
    let redis = Redis::start();
    let queue = redis.queue("q").await;
    let mut worker = helper(&redis, true);
    let running = queue.add("x", json!(1)).await.unwrap();
    let waiting = queue.add("x", json!(2)).await.unwrap();
    until("it runs", || async { queue.get_job_counts().await.unwrap().active == 1 }).await;
    assert!(Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || worker.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(queue.get_job_state(running.id()).await.unwrap(), JobState::Completed);
    assert_eq!(queue.get_job_state(waiting.id()).await.unwrap(), JobState::Waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_store_is_told_in_a_sentence() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = StoreAddress::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
    let error =
        exec::start(ExecConfig::new(store, "q", ["true"])).await.err().expect("nobody is there").to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--store"), "{error}");
}
