//! Actor.
