//! SM objects, and what is going on in which session. In memory: SM objects are session
//! objects, and what lasts lasts in the module beneath.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki_sys::{
    CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID, CKA_PRIVATE, CKR_OBJECT_HANDLE_INVALID,
    CKR_OPERATION_ACTIVE,
};
use zeroize::Zeroizing;

use crate::ffi::Answer;
use crate::inner;
use crate::object::{Object, Owner};
use crate::template::Template;

/// Handles of SM objects begin here: no module gives as many of its own.
const FIRST: CK_OBJECT_HANDLE = 1 << 48;

/// Which of a session's operations; each may be one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    Encrypt,
    Decrypt,
    Sign,
    Verify,
    Digest,
}

/// An operation that was begun: what is left to do with the data.
#[derive(Clone)]
pub(crate) struct Operation {
    /// From data (and, for C_Verify, a signature) to the result.
    pub(crate) run: Arc<Run>,
    /// Longest result for so many bytes of data.
    pub(crate) most: fn(usize) -> usize,
}

type Run = dyn Fn(&[u8], &[u8]) -> Answer<Zeroizing<Vec<u8>>> + Send + Sync;

impl Operation {
    pub(crate) fn new(
        most: fn(usize) -> usize,
        run: impl Fn(&[u8], &[u8]) -> Answer<Zeroizing<Vec<u8>>> + Send + Sync + 'static,
    ) -> Self {
        Self { run: Arc::new(run), most }
    }
}

/// Everything that this module remembers.
pub(crate) struct State {
    objects: BTreeMap<CK_OBJECT_HANDLE, Arc<Object>>,
    /// Objects made so far: a handle is never used again.
    made: CK_OBJECT_HANDLE,
    operations: BTreeMap<(CK_SESSION_HANDLE, Function), Operation>,
    /// What a search has found and not yet told.
    searches: BTreeMap<CK_SESSION_HANDLE, Vec<CK_OBJECT_HANDLE>>,
}

static STATE: Mutex<State> = Mutex::new(State {
    objects: BTreeMap::new(),
    made: 0,
    operations: BTreeMap::new(),
    searches: BTreeMap::new(),
});

/// Runs `work` on the state, alone.
pub(crate) fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    work(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a handle is one of ours, or was.
pub(crate) const fn is_ours(handle: CK_OBJECT_HANDLE) -> bool {
    handle > FIRST
}

/// Who makes an object in this session.
pub(crate) fn owner(session: CK_SESSION_HANDLE) -> Answer<Owner> {
    let (slot, logged_in) = inner::session(session)?;
    Ok(Owner { session, slot, logged_in })
}

/// An object as a session sees it.
pub(crate) fn object(session: CK_SESSION_HANDLE, handle: CK_OBJECT_HANDLE) -> Answer<Arc<Object>> {
    let (slot, logged_in) = inner::session(session)?;
    let found = with(|state| state.objects.get(&handle).cloned());
    found.filter(|object| object.shows(slot, logged_in)).ok_or(CKR_OBJECT_HANDLE_INVALID)
}

impl State {
    pub(crate) fn insert(&mut self, object: Object) -> CK_OBJECT_HANDLE {
        self.made += 1;
        let handle = FIRST + self.made;
        self.objects.insert(handle, Arc::new(object));
        handle
    }

    pub(crate) fn destroy(&mut self, handle: CK_OBJECT_HANDLE) {
        self.objects.remove(&handle);
    }

    /// Handles of the objects that a session sees and a template fits.
    pub(crate) fn matching(
        &self,
        slot: CK_SLOT_ID,
        logged_in: bool,
        template: &Template,
    ) -> Vec<CK_OBJECT_HANDLE> {
        let fits = |object: &Object| object.shows(slot, logged_in) && object.matches(template);
        self.objects.iter().filter(|(_, object)| fits(object)).map(|(handle, _)| *handle).collect()
    }

    pub(crate) fn begin(
        &mut self,
        session: CK_SESSION_HANDLE,
        function: Function,
        operation: Operation,
    ) -> Answer<()> {
        if self.operations.contains_key(&(session, function)) {
            return Err(CKR_OPERATION_ACTIVE);
        }
        self.operations.insert((session, function), operation);
        Ok(())
    }

    pub(crate) fn going(&self, session: CK_SESSION_HANDLE, function: Function) -> Option<Operation> {
        self.operations.get(&(session, function)).cloned()
    }

    pub(crate) fn end(&mut self, session: CK_SESSION_HANDLE, function: Function) {
        self.operations.remove(&(session, function));
    }

    pub(crate) fn search(&mut self, session: CK_SESSION_HANDLE, found: Vec<CK_OBJECT_HANDLE>) {
        self.searches.insert(session, found);
    }

    /// Up to `most` of what the session's search has found, each told once.
    pub(crate) fn found(&mut self, session: CK_SESSION_HANDLE, most: usize) -> Vec<CK_OBJECT_HANDLE> {
        let Some(left) = self.searches.get_mut(&session) else { return Vec::new() };
        left.drain(..most.min(left.len())).collect()
    }

    /// Forgets everything but which handles were used: C_Finalize.
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
        self.operations.clear();
        self.searches.clear();
    }

    /// A session's objects, operations and search end with it.
    pub(crate) fn close(&mut self, session: CK_SESSION_HANDLE) {
        self.objects.retain(|_, object| object.owner.session != session);
        self.operations.retain(|(of, _), _| *of != session);
        self.searches.remove(&session);
    }

    /// As [`State::close`], for every session of a slot that has an object. An operation
    /// without one is a digest, whose session's number isn't given again.
    pub(crate) fn close_all(&mut self, slot: CK_SLOT_ID) {
        let owners = self.objects.values().map(|object| object.owner);
        let sessions: Vec<_> = owners.filter(|owner| owner.slot == slot).map(|owner| owner.session).collect();
        for session in sessions {
            self.close(session);
        }
    }

    /// Private objects of a slot end with the login.
    pub(crate) fn log_out(&mut self, slot: CK_SLOT_ID) {
        self.objects.retain(|_, object| object.owner.slot != slot || !object.flag(CKA_PRIVATE));
        self.operations.clear();
    }
}
