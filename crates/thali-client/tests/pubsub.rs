//! The subscription connection against a real redis-server that goes away and comes back.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use thali_client::{PubSub, PubSubEvent, StoreAddress, SubscribeError, Topic};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const REDIS: &str = "/usr/bin/redis-server";
const WITHIN: Duration = Duration::from_secs(10);

struct Store(Child);

impl Store {
    async fn start(port: u16, dir: &Path, address: &StoreAddress) -> Self {
        assert!(
            Path::new(REDIS).exists(),
            "{REDIS} is missing: install Debian's redis-server to run this test"
        );
        let child = Command::new(REDIS)
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
            .arg(dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        timeout(WITHIN, async {
            while address.client().get_multiplexed_async_connection().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("redis-server answers");
        Self(child)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn next(events: &mut mpsc::Receiver<PubSubEvent>) -> PubSubEvent {
    timeout(WITHIN, events.recv()).await.expect("an event in time").expect("an open connection")
}

async fn publish(address: &StoreAddress, channel: &str, text: &str) -> i64 {
    let mut connection = address.client().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("PUBLISH").arg(channel).arg(text).query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn subscriptions_survive_the_store_and_gaps_are_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let address = StoreAddress::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
    let store = Store::start(port, dir.path(), &address).await;
    let (pubsub, mut events) = PubSub::open(address.clone());
    assert!(matches!(next(&mut events).await, PubSubEvent::Up { gap: false }));

    let channels = (0..1_500).map(|number| Topic::Channel(format!("c{number}").into()));
    let topics = channels.chain([Topic::Pattern("p*".into())]).collect();
    pubsub.subscribe(topics).unwrap().live().await.unwrap();
    pubsub.unsubscribe(vec![Topic::Channel("c7".into())]).unwrap();
    pubsub.subscribe(vec![Topic::Channel("c8".into())]).unwrap().live().await.unwrap();
    assert_eq!(publish(&address, "c7", "x").await, 0);
    assert_eq!(publish(&address, "c1499", "x").await, 1);
    let PubSubEvent::Message(message) = next(&mut events).await else { panic!("no message") };
    assert_eq!((message.get_channel_name(), message.get_payload_bytes()), ("c1499", &b"x"[..]));

    drop(store);
    assert!(matches!(next(&mut events).await, PubSubEvent::Down { .. }));
    let away = pubsub.subscribe(vec![Topic::Channel("late".into())]).unwrap().live().await;
    assert_eq!(away, Err(SubscribeError::Down));

    let _store = Store::start(port, dir.path(), &address).await;
    assert!(matches!(next(&mut events).await, PubSubEvent::Up { gap: true }));
    for channel in ["c0", "c1499", "pattern", "late"] {
        assert_eq!(publish(&address, channel, "y").await, 1, "{channel} is live again");
        assert!(matches!(next(&mut events).await, PubSubEvent::Message(_)));
    }
}
