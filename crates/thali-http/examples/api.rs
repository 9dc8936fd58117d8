//! Serves the API alone, without gateway, in front of any store: for trying it and for measuring it.
//!
//! `cargo run --release -p thali-http --example api -- redis://127.0.0.1:6379 127.0.0.1:8379 [token]`

use serde_json::value::RawValue;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use thali_client::StoreAddress;
use thali_http::{Access, ApiState, Limits, Metrics, RoomError, RoomPublisher};
use thali_jobs::queue::{Queues, QueuesConfig};

/// Stands where the binary has the gateway.
struct PrintedRooms;

impl RoomPublisher for PrintedRooms {
    fn publish<'a>(
        &'a self,
        room: &'a str,
        event: &'a str,
        data: &'a RawValue,
    ) -> Pin<Box<dyn Future<Output = Result<(), RoomError>> + Send + 'a>> {
        println!("{room} {event} {data}");
        Box::pin(async { Ok(()) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(bind)) = (args.next(), args.next()) else {
        return Err("usage: api STORE-URL BIND-ADDRESS [TOKEN]".into());
    };
    let access = Access::new(args.next());
    let bind: SocketAddr = bind.parse()?;
    access.check_bind(bind.ip())?;
    let queues = Queues::open(&StoreAddress::parse(&store)?, QueuesConfig::default())?;
    let state =
        ApiState::new(queues, Some(Arc::new(PrintedRooms)), access, Limits::default(), Metrics::default());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    axum::serve(listener, thali_http::router(state)).await?;
    Ok(())
}
