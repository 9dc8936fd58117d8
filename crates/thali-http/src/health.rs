//! Signs of life: `/healthz` for the process, `/readyz` for the process and its store.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::time::Duration;

use crate::ApiState;
use crate::problem::{Code, Failure, Problem};

/// How long the store may take to answer before this node counts as not ready.
const STORE_WAIT_MAX: Duration = Duration::from_secs(1);

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Health {
    /// `ok`
    status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()),
    responses((status = OK, description = "alive", body = Health)))]
pub(crate) async fn healthz() -> Json<Health> {
    OK
}

/// The store answers, so requests can be served.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()),
    responses(
        (status = OK, description = "ready", body = Health),
        (status = SERVICE_UNAVAILABLE, description = "the store does not answer", body = Problem,
            content_type = "application/problem+json"),
    ))]
pub(crate) async fn readyz(State(state): State<ApiState>) -> Result<Json<Health>, Failure> {
    match tokio::time::timeout(STORE_WAIT_MAX, state.queues().ping()).await {
        Ok(Ok(())) => Ok(OK),
        Ok(Err(error)) => Err(Failure::new(Code::STORE_AWAY, error.to_string())),
        Err(_) => Err(Failure::new(Code::STORE_AWAY, "the store does not answer in time")),
    }
}
