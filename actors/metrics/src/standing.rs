//! Whether a [`Service`](crate::Service) is still what the registry would hand out, so that a handle
//! keeps one and asks for another only once there is another: a message to an actor and back costs
//! more than all else that serving a kept result does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The registry's side: what it was given out with stands for as long as this lives.
#[derive(Debug)]
pub(crate) struct Stand(Arc<AtomicBool>);

impl Default for Stand {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Stand {
    pub(crate) fn standing(&self) -> Standing {
        Standing(Arc::clone(&self.0))
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The holders' side. What no registry gave out never stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<AtomicBool>);

impl Standing {
    pub(crate) fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_until_its_registry_moves_on() {
        let mut stand = Stand::default();
        let before = stand.standing();
        assert!(before.holds() && !Standing::default().holds());
        stand = Stand::default();
        assert!(!before.holds() && stand.standing().holds());
    }
}
