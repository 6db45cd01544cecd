//! What is read from a request's address, refused as everything else is: `{"error", "code"}`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// As axum's.
pub(crate) struct Path<T>(pub(crate) T);

/// As axum's.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        is_text(parts)?;
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(it) =
            read.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(it))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        is_text(parts)?;
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(it) =
            read.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(it))
    }
}

/// PostgreSQL keeps no character zero: nothing of ours is found by one.
fn is_text(parts: &Parts) -> Result<(), ApiError> {
    if parts.uri.to_string().contains("%00") {
        return Err(ApiError::bad_request(
            "an address holds no character zero (%00)",
        ));
    }
    Ok(())
}
