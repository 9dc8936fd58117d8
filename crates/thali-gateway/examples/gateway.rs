//! A gateway alone: `cargo run -p thali-gateway --example gateway -- 127.0.0.1:3000 redis://127.0.0.1:6379`.
//!
//! A third argument is the secret of HS256 tokens; without it everyone may do everything.

use std::net::SocketAddr;

use axum::serve::ListenerExt as _;
use thali_client::StoreAddress;
use thali_gateway::auth::{AuthSettings, TokenAlgorithm};
use thali_gateway::{Config, Gateway};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address: SocketAddr = args.next().unwrap_or("127.0.0.1:3000".into()).parse()?;
    let store = StoreAddress::parse(&args.next().unwrap_or("redis://127.0.0.1:6379".into()))?;
    let auth = args.next().map_or(AuthSettings::None, |secret| AuthSettings::Jwt {
        algorithm: TokenAlgorithm::Hs256,
        key: secret.into_bytes(),
    });
    let config = Config { auth, ..Config::default() };
    config.check_bind(address.ip())?;
    let gateway = Gateway::start(config, store).await?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    // Small messages must not wait for the acknowledgement of those before them.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let router = gateway.router();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::signal::ctrl_c().await?;
    println!("{:?}", gateway.stats());
    gateway.shutdown().await;
    serving.abort();
    Ok(())
}
