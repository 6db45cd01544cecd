//! One shape for what our own API answers when it cannot do what was asked.

use axum::Json;
use axum::extract::Request;
use axum::extract::rejection::JsonRejection;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use ballpoint_runtime::store::StoreError;
use serde_json::json;

/// Said of a question that comes before its data.
pub(crate) const STARTING: &str = "the first pass is still running; nothing is built yet";

/// When a question that came before its data is asked again, in seconds.
pub(crate) const RETRY_SOON: (HeaderName, &str) = (RETRY_AFTER, "2");

/// `{"error": message, "code": code}` with its status. Messages never hold database text that the
/// caller could not have read otherwise.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "bad_request",
            message: message.into(),
        }
    }

    /// What was asked for does not fit the state things are in.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            code: "conflict",
            message: message.into(),
        }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            message: message.into(),
        }
    }

    /// Over the limit of what is answered at once; the client tries again.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "busy",
            message: message.into(),
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable",
            message: message.into(),
        }
    }

    /// The data is not there yet; the client tries again.
    pub(crate) fn starting() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "starting",
            message: STARTING.to_owned(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "failed",
            message: message.into(),
        }
    }
}

/// A body that is no JSON, or not the JSON that is asked for here.
impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.message, "code": self.code });
        if self.code == "starting" {
            return (self.status, [RETRY_SOON], Json(body)).into_response();
        }
        (self.status, Json(body)).into_response()
    }
}

/// No row of the route table has this path.
pub(crate) async fn no_route(request: Request) -> ApiError {
    ApiError::not_found(format!("there is no {}", request.uri().path()))
}

/// A row has this path, with another method.
pub(crate) async fn no_method(request: Request) -> ApiError {
    ApiError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method_not_allowed",
        message: format!(
            "{} is not answered at {}",
            request.method(),
            request.uri().path()
        ),
    }
}
