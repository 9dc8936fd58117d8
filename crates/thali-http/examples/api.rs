//! Serves the API alone, without gateway, in front of any store: for trying it and for measuring it.
//!
//! `cargo run --release -p thali-http --example api -- redis://127.0.0.1:6379 127.0.0.1:8379 [token]`

use std::net::SocketAddr;
use thali_client::StoreAddress;
use thali_http::{Access, ApiState, Limits, Metrics};
use thali_jobs::queue::{Queues, QueuesConfig};

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
    let state = ApiState::new(queues, None, access, Limits::default(), Metrics::default());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    axum::serve(listener, thali_http::router(state)).await?;
    Ok(())
}
