//! The HTTP API, its OpenAPI page, metrics, health and the console's pages.
//!
//! [`router`] gives an axum router for the binary to serve beside the gateway's; it owns no socket and no
//! store. What comes in is checked here and by [`thali_jobs::queue`]; what goes out on failure is always a
//! [`problem::Problem`].

pub mod access;
mod api;
mod console;
mod extract;
mod health;
pub mod metrics;
mod observe;
pub mod problem;
pub mod rooms;

pub use access::{Access, BindRefused};
pub use api::{Limits, openapi, router};
pub use metrics::Metrics;
pub use rooms::{RoomError, RoomPublisher};

use std::sync::Arc;
use thali_jobs::queue::Queues;

/// All that the routes need; cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    inner: Arc<Inner>,
}

struct Inner {
    queues: Queues,
    rooms: Option<Arc<dyn RoomPublisher>>,
    access: Access,
    limits: Limits,
    metrics: Metrics,
    bodies: Arc<extract::Bodies>,
}

impl ApiState {
    /// `rooms` is absent where no gateway runs; publishing to rooms then answers 503.
    pub fn new(
        queues: Queues,
        rooms: Option<Arc<dyn RoomPublisher>>,
        access: Access,
        limits: Limits,
        metrics: Metrics,
    ) -> Self {
        Self { inner: Arc::new(Inner { queues, rooms, access, limits, metrics, bodies: Arc::default() }) }
    }

    fn queues(&self) -> &Queues {
        &self.inner.queues
    }

    fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn bodies(&self) -> &Arc<extract::Bodies> {
        &self.inner.bodies
    }

    fn access(&self) -> &Access {
        &self.inner.access
    }

    fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    fn rooms(&self) -> Option<&dyn RoomPublisher> {
        self.inner.rooms.as_deref()
    }
}
