//! Events into rooms over HTTP.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use thali_jobs::queue::{FieldError, check_text, read_object};

use super::ENVELOPE_BYTES_MAX;
use super::faults::BadBody;
use super::paths::{ROOM_NAME_LEN_MAX, RoomPath};
use crate::ApiState;
use crate::extract::{ApiPath, must_be_json, read_body};
use crate::problem::{Code, Failure};
use crate::rooms::RoomError;

/// Names with a meaning of their own in Socket.IO; no application event may have them.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// An event for all sockets in a room.
#[derive(utoipa::ToSchema)]
#[schema(as = Event)]
#[expect(dead_code, reason = "describes what Event reads")]
#[serde(deny_unknown_fields)]
pub(crate) struct EventSchema {
    /// The name under which it arrives.
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = r"^(?!(connect|connect_error|disconnect|disconnecting|newListener|removeListener)$)[^\x00-\x1f\x7f-\x9f]+$"
    )]
    event: String,
    /// Its one argument; null if absent.
    data: Option<serde_json::Value>,
}

/// The event is on its way.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Published {
    room: String,
}

/// Publish an event to all sockets in a room, on every node.
#[utoipa::path(post, path = "/api/rooms/{room}/events", tag = "rooms", params(RoomPath),
    request_body = EventSchema,
    responses((status = ACCEPTED, description = "on its way", body = Published), BadBody))]
pub(crate) async fn publish(
    State(state): State<ApiState>,
    ApiPath(RoomPath { room }): ApiPath<RoomPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Published>), Failure> {
    must_be_json(&headers)?;
    let body = read_body(&state, body, state.limits().event_bytes_max + ENVELOPE_BYTES_MAX).await?;
    let event: Event<'_> = read_object(&body)?;
    check_event(&event.event)?;
    let data = event.data.unwrap_or(RawValue::NULL);
    if data.get().len() > state.limits().event_bytes_max {
        let detail = format!("an event may have {} bytes of data", state.limits().event_bytes_max);
        return Err(Failure::new(Code::TOO_LARGE, detail).with_field("data"));
    }
    let Some(rooms) = state.rooms() else {
        return Err(Failure::new(Code::NO_GATEWAY, "this node runs without a gateway"));
    };
    match rooms.publish(&room, &event.event, data).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(Published { room }))),
        Err(error @ RoomError::BusAway(_)) => Err(Failure::new(Code::STORE_AWAY, error.to_string())),
        Err(RoomError::Refused(reason)) => Err(Failure::new(Code::INVALID_VALUE, reason)),
    }
}

fn check_event(event: &str) -> Result<(), FieldError> {
    check_text("event", event, ROOM_NAME_LEN_MAX)?;
    if RESERVED_EVENTS.contains(&event) {
        return Err(FieldError::invalid("event", "is a name that Socket.IO keeps for itself"));
    }
    Ok(())
}
