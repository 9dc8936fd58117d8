//! The layers above the store in one process: queues, HTTP API, gateway, on one listener each address.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::middleware::from_fn;
use serde_json::value::RawValue;
use thali_client::StoreAddress;
use thali_gateway::Gateway;
use thali_gateway::auth::AuthSettings;
use thali_gateway::transport::Origins;
use thali_http::{Access, ApiState, Metrics, RoomError, RoomPublisher};
use thali_jobs::queue::{Queues, QueuesConfig};
use thali_server::config::{GatewayAuth, Settings};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::http;
use crate::serve::Role;

/// How long open requests may take once the end was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// How long a request's body may bring nothing.
const BODY_REST_MAX: Duration = Duration::from_secs(30);

/// The running layers.
pub struct App {
    pub addresses: Vec<SocketAddr>,
    gateway: Arc<Gateway>,
    end: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl App {
    /// Connects to the store and serves. `more` are the routes of whoever embeds this.
    pub async fn start(
        settings: &Settings,
        listeners: Vec<TcpListener>,
        address: &StoreAddress,
        more: Router,
    ) -> Result<Self> {
        let access = access(settings);
        let gateway_config = gateway_config(settings)?;
        let asks_all = access.needs_token() && settings.gateway_auth != GatewayAuth::None;
        let names = http::Names::new(asks_all, &settings.gateway_cors);
        let gateway = Arc::new(Gateway::start(gateway_config, address.clone()).await?);
        let queues = Queues::open(address, QueuesConfig::default())?;
        let figures = Arc::clone(&gateway);
        let metrics = Metrics::new(|registry| {
            registry.register_collector(Box::new(GatewayFigures(figures)));
        });
        let rooms = Arc::new(Rooms(Arc::clone(&gateway)));
        let state = ApiState::new(queues, Some(rooms), access, Default::default(), metrics);
        let check_name = from_fn(move |request, next| http::check_name(names.clone(), request, next));
        let router = thali_http::router(state)
            .merge(gateway.router())
            .merge(more)
            .layer(RequestBodyTimeoutLayer::new(BODY_REST_MAX))
            .layer(check_name);
        let (end, ended) = watch::channel(false);
        let mut addresses = Vec::new();
        let mut servers = Vec::new();
        for listener in listeners {
            addresses.push(listener.local_addr()?);
            servers.push(tokio::spawn(http::serve(
                listener,
                router.clone(),
                ended.clone(),
                http::HEAD_TIME_MAX,
            )));
        }
        Ok(Self { addresses, gateway, end, servers })
    }

    /// Sends clients elsewhere, lets open requests end, and stops.
    pub async fn shutdown(self) {
        self.gateway.shutdown().await;
        let _ = self.end.send(true);
        for server in self.servers {
            if tokio::time::timeout(GRACE, server).await.is_err() {
                tracing::warn!("requests were still open at the end of the grace time");
            }
        }
    }
}

/// Opens the HTTP ports, where the settings allow it.
pub async fn listen(settings: &Settings) -> Result<Vec<TcpListener>> {
    let (access, gateway_config) = (access(settings), gateway_config(settings)?);
    let mut listeners = Vec::new();
    for bind in &settings.http_bind {
        let port = settings.http_port;
        let listener = TcpListener::bind((bind.as_str(), port)).await.map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::AddrInUse => {
                    "another server is running there; stop it, or choose another port with --http-port"
                }
                ErrorKind::PermissionDenied => "choose a port from 1024 upwards with --http-port",
                _ => "give an address of this machine with --http-bind",
            };
            anyhow::anyhow!("cannot listen on {bind}:{port} for HTTP ({error}); {advice}")
        })?;
        let ip = listener.local_addr()?.ip();
        access.check_bind(ip)?;
        gateway_config.check_bind(ip)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn access(settings: &Settings) -> Access {
    Access::new(settings.http_token.clone()).with_origins(settings.gateway_cors.clone())
}

fn gateway_config(settings: &Settings) -> Result<thali_gateway::Config> {
    let auth = match settings.gateway_auth {
        GatewayAuth::None => AuthSettings::None,
        GatewayAuth::Jwt => AuthSettings::Jwt {
            algorithm: settings.gateway_jwt_algorithm.parse()?,
            key: settings
                .gateway_jwt_key
                .clone()
                .context("gateway-auth jwt needs gateway-jwt-key: the secret, or the public key in PEM")?
                .into_bytes(),
        },
    };
    let origins = match settings.gateway_cors.as_slice() {
        [] => Origins::Own,
        [any] if any == "*" => Origins::Any,
        listed => Origins::Listed(listed.to_vec()),
    };
    let recovery = Duration::from_secs(settings.gateway_recovery_s);
    Ok(thali_gateway::Config { auth, origins, recovery, ..Default::default() })
}

/// The gateway as the API sees it.
struct Rooms(Arc<Gateway>);

impl RoomPublisher for Rooms {
    fn publish<'a>(
        &'a self,
        room: &'a str,
        event: &'a str,
        data: &'a RawValue,
    ) -> Pin<Box<dyn Future<Output = Result<(), RoomError>> + Send + 'a>> {
        Box::pin(async move {
            self.0.publish(room, event, data).await.map_err(|error| {
                if error.code.retry {
                    RoomError::BusAway(error.message)
                } else {
                    RoomError::Refused(error.message)
                }
            })
        })
    }
}

/// The gateway's figures for `/metrics`.
struct GatewayFigures(Arc<Gateway>);

impl std::fmt::Debug for GatewayFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatewayFigures")
    }
}

impl prometheus_client::collector::Collector for GatewayFigures {
    fn encode(&self, mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>) -> std::fmt::Result {
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::counter::ConstCounter;
        use prometheus_client::metrics::gauge::ConstGauge;
        let stats = self.0.stats();
        let gauges = [
            ("gateway_connections", "Socket.IO sessions", stats.connections as i64),
            ("gateway_sessions_away", "Clients that may come back to their session", stats.away as i64),
            ("gateway_rooms", "Rooms with members on this node", stats.rooms as i64),
            ("gateway_queues_watched", "Queues whose events are read", stats.queues_watched as i64),
            ("gateway_bus_up", "Whether messages of other nodes arrive", i64::from(stats.bus_up)),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("gateway_packets_in", "Packets that clients sent", stats.packets_in),
            ("gateway_messages_out", "Messages pushed to sockets", stats.messages_out),
            ("gateway_published", "Events published by this node", stats.published),
            ("gateway_slow_consumers", "Sessions closed because they did not read", stats.slow_consumers),
            ("gateway_bus_gaps", "Times when messages of other nodes may have been missed", stats.bus_gaps),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// The runtime of the layers above the store.
pub fn runtime(settings: &Settings) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.worker_threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Begins the log: to `logfile`; else to the standard error, or where a redis-server has it, the standard
/// output. THALI_LOG overrides `loglevel`.
pub fn begin_log(settings: &Settings, role: Role) -> Result<()> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter =
        EnvFilter::try_from_env("THALI_LOG").unwrap_or_else(|_| EnvFilter::new(settings.log_filter()));
    let builder = fmt().with_env_filter(filter);
    let begun = if settings.logfile.is_empty() {
        let builder = builder.with_ansi(false);
        match role {
            Role::Thali => builder.with_writer(std::io::stderr).try_init(),
            Role::RedisServer => builder.with_writer(std::io::stdout).try_init(),
        }
    } else {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&settings.logfile)
            .with_context(|| format!("cannot write the log file {}", settings.logfile))?;
        builder.with_ansi(false).with_writer(std::sync::Mutex::new(file)).try_init()
    };
    begun.map_err(|error| anyhow::anyhow!("the log has begun already: {error}"))?;
    std::panic::set_hook(Box::new(report_bug));
    Ok(())
}

/// A panic goes into the log, with the way there: the process may be about to end, and the standard error be
/// nobody's.
fn report_bug(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let way = std::backtrace::Backtrace::force_capture();
    let version = env!("CARGO_PKG_VERSION");
    tracing::error!(
        "=== BUG REPORT START: cut and paste from here ===\n\
         thali {version} has met a bug, in the thread {}: {panic}\n\
         STACK TRACE\n{way}\nSTACK TRACE DONE\n\
         === BUG REPORT END. Please report it with all lines from the start on ===",
        thread.name().unwrap_or("without a name")
    );
}
