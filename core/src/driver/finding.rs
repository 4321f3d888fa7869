//! What a server's admission has found out about a client, for its handlers.

use std::any::Any;
use std::sync::{Arc, Mutex};

use super::harmless::harmless;
use super::watch::lock;

/// What the function of [`Admit::ask`](super::Admit::ask) returned when it let a client in; its type is hidden.
pub(crate) struct Finding(Option<Arc<dyn Any + Send + Sync>>);

impl Finding {
    pub(crate) fn new<T: Send + Sync + 'static>(found: T) -> Self {
        Self(Some(Arc::new(found)))
    }
}

/// It is mostly dropped by a driver, which a value of the application's must not end.
impl Drop for Finding {
    fn drop(&mut self) {
        let found = self.0.take();
        harmless("the drop of what an admission had returned", None, || {
            drop(found);
        });
    }
}

/// The latest finding about a session's client. None is dropped under the lock: it may look here itself.
#[derive(Default)]
pub(crate) struct Latest(Mutex<Option<Finding>>);

impl Latest {
    pub(crate) fn new(finding: Option<Finding>) -> Self {
        Self(Mutex::new(finding))
    }

    /// The finding, if it is one of that type.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let found = lock(&self.0).as_ref()?.0.clone();
        found?.downcast().ok()
    }

    pub(crate) fn replace(&self, finding: Option<Finding>) {
        let before = std::mem::replace(&mut *lock(&self.0), finding);
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_type_is_found_and_only_the_latest_is_kept() {
        let latest = Latest::default();
        assert_eq!(latest.get::<u32>(), None);
        let first = Arc::new(());
        latest.replace(Some(Finding::new(first.clone())));
        assert!(latest.get::<()>().is_none() && latest.get::<Arc<()>>().is_some());
        assert_eq!(Arc::strong_count(&first), 2);
        latest.replace(Some(Finding::new(7_u32)));
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!(latest.get::<u32>().as_deref(), Some(&7));
        assert!(latest.get::<Arc<()>>().is_none());
        latest.replace(None);
        assert_eq!(latest.get::<u32>(), None);
    }

    #[test]
    fn what_panics_as_it_is_dropped_harms_nobody() {
        struct Brittle(Arc<Latest>);
        impl Drop for Brittle {
            fn drop(&mut self) {
                // This would hang if it were dropped under the lock.
                panic!("{:?}", self.0.get::<u32>());
            }
        }
        let latest = Arc::<Latest>::default();
        latest.replace(Some(Finding::new(Brittle(latest.clone()))));
        latest.replace(Some(Finding::new(7_u32)));
        assert_eq!(latest.get::<u32>().as_deref(), Some(&7));
    }
}
