//! Figures for Prometheus.
//!
//! Counters of requests are kept here; figures of queues are asked from the store when somebody scrapes, at
//! most once in [`FRESH`]. The binary adds sources of its own as collectors. Labels have bounded sets of
//! values: routes are templates, and beyond [`QUEUES_LABELLED_MAX`] queues are summed up as `_other`.

use axum::extract::State;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use parking_lot::Mutex;
pub use prometheus_client;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thali_jobs::queue::{Depth, QueueError, Queues};

use crate::ApiState;
use crate::problem::Failure;

/// Queues that get a label of their own.
pub const QUEUES_LABELLED_MAX: usize = 500;
/// Within this time, scrapes share one look at the store.
const FRESH: Duration = Duration::from_secs(1);
/// How long a scrape waits for the store before it goes without.
const STORE_WAIT_MAX: Duration = Duration::from_secs(3);
const OTHER_QUEUES: &str = "_other";

/// The figures of this process. Cheap to clone; clones share figures.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    jobs_added: Counter,
    store: Arc<Mutex<StoreFigures>>,
    looking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Default)]
struct StoreFigures {
    depths: Vec<Depth>,
    up: bool,
    looked_at: Option<Instant>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl Metrics {
    /// `register` adds the metrics and collectors of the binary's other parts.
    pub fn new(register: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("thali");
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("http_requests", "HTTP requests answered", requests.clone());
        let durations = Family::<RouteLabels, Histogram>::new_with_constructor(|| {
            // 0.25 ms to 8 s, each twice the one before.
            Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
        });
        registry.register("http_request_duration_seconds", "Time to answer HTTP requests", durations.clone());
        let jobs_added = Counter::default();
        registry.register("http_jobs_added", "Jobs added over HTTP", jobs_added.clone());
        let store = Arc::<Mutex<StoreFigures>>::default();
        registry.register_collector(Box::new(StoreCollector(store.clone())));
        register(&mut registry);
        let looking = tokio::sync::Mutex::default();
        Self { inner: Arc::new(Inner { registry, requests, durations, jobs_added, store, looking }) }
    }

    /// All figures in OpenMetrics text, with a fresh look at the store.
    pub async fn scrape(&self, queues: &Queues) -> String {
        self.look(queues).await;
        let mut text = String::with_capacity(8 << 10);
        prometheus_client::encoding::text::encode(&mut text, &self.inner.registry)
            .expect("a String takes every character");
        text
    }

    pub(crate) fn note_request(&self, method: &Method, route: &str, status: u16, elapsed: Duration) {
        let method = method_name(method);
        let labels = RouteLabels { method, route: route.to_owned() };
        self.inner.durations.get_or_create(&labels).observe(elapsed.as_secs_f64());
        let labels = RequestLabels { method, route: labels.route, status };
        self.inner.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn note_added(&self, jobs: u64) {
        self.inner.jobs_added.inc_by(jobs);
    }

    async fn look(&self, queues: &Queues) {
        // Scrapes that come together wait for one look.
        let _looking = self.inner.looking.lock().await;
        if self.inner.store.lock().looked_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let found = tokio::time::timeout(STORE_WAIT_MAX, depths(queues)).await;
        let mut store = self.inner.store.lock();
        store.looked_at = Some(Instant::now());
        match found {
            Ok(Ok(depths)) => (store.depths, store.up) = (depths, true),
            Ok(Err(_)) | Err(_) => (store.depths, store.up) = (Vec::new(), false),
        }
    }
}

async fn depths(queues: &Queues) -> Result<Vec<Depth>, QueueError> {
    let names = queues.names().await?;
    queues.depths(&names.names).await
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

#[derive(Debug)]
struct StoreCollector(Arc<Mutex<StoreFigures>>);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let figures = self.0.lock();
        let up = ConstGauge::new(i64::from(figures.up));
        up.encode(encoder.encode_descriptor(
            "store_up",
            "Whether the store answers",
            None,
            MetricType::Gauge,
        )?)?;
        let labelled = figures.depths.len().min(QUEUES_LABELLED_MAX);
        let (own, others) = figures.depths.split_at(labelled);

        let help = "Jobs in a queue by state";
        let mut jobs = encoder.encode_descriptor("queue_jobs", help, None, MetricType::Gauge)?;
        for depth in own {
            for (state, count) in counts(depth) {
                let labels = [("queue", depth.queue.name.as_str()), ("state", state)];
                ConstGauge::new(count as i64).encode(jobs.encode_family(&labels)?)?;
            }
        }
        if !others.is_empty() {
            for (index, (state, _)) in counts(&others[0]).into_iter().enumerate() {
                let sum: u64 = others.iter().map(|depth| counts(depth)[index].1).sum();
                let labels = [("queue", OTHER_QUEUES), ("state", state)];
                ConstGauge::new(sum as i64).encode(jobs.encode_family(&labels)?)?;
            }
        }

        let help = "Age of the oldest job that could be worked on";
        let mut ages =
            encoder.encode_descriptor("queue_oldest_waiting_seconds", help, None, MetricType::Gauge)?;
        let seconds = |depth: &Depth| depth.oldest_waiting_ms.unwrap_or(0) as f64 / 1000.0;
        for depth in own {
            let labels = [("queue", depth.queue.name.as_str())];
            ConstGauge::new(seconds(depth)).encode(ages.encode_family(&labels)?)?;
        }
        if !others.is_empty() {
            let oldest = others.iter().map(seconds).fold(0.0, f64::max);
            ConstGauge::new(oldest).encode(ages.encode_family(&[("queue", OTHER_QUEUES)])?)?;
        }

        let help = "Whether workers take no job from the queue";
        let mut paused = encoder.encode_descriptor("queue_paused", help, None, MetricType::Gauge)?;
        for depth in own {
            let labels = [("queue", depth.queue.name.as_str())];
            ConstGauge::new(i64::from(depth.queue.paused)).encode(paused.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn counts(depth: &Depth) -> [(&'static str, u64); 7] {
    let counts = &depth.queue.counts;
    [
        ("waiting", counts.waiting),
        ("active", counts.active),
        ("delayed", counts.delayed),
        ("prioritized", counts.prioritized),
        ("waiting-children", counts.waiting_children),
        ("completed", counts.completed),
        ("failed", counts.failed),
    ]
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = OK, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")))]
pub(crate) async fn scrape(State(state): State<ApiState>) -> Result<impl IntoResponse, Failure> {
    let text = state.metrics().scrape(state.queues()).await;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
