//! Wrapping pairs made ahead: an RSA-4096 pair takes a token seconds, and who asks for one
//! shouldn't wait for it. A bounded few lie ready, of kinds that were asked for; each is given
//! out once. What must not live here: whose they become.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claviger_protocol::{Code, KeyPairSpec, KeySpec, SecretBytes, WrappingKeySpec};
use tokio::sync::oneshot;

use crate::backend::hsm::command::{Answer, Command, HsmError, Template, Wrapped};
use crate::backend::hsm::lane::Lane;
use crate::backend::software::PrivateKey;
use crate::edge::{Entropy, Worker};
use crate::failure::Failure;

/// Where a wrapping pair's private key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// In the token.
    Hsm,
    /// In the daemon's memory.
    Memory,
}

/// A wrapping pair that nobody has yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappingPair {
    /// The private key.
    pub private: Private,
    /// SubjectPublicKeyInfo (DER).
    pub public_key: Vec<u8>,
}

/// A wrapping pair's private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// The token's, wrapped under its root.
    Wrapped(Wrapped),
    /// PKCS#8 (DER).
    Memory(SecretBytes),
}

type Kind = (WrappingKeySpec, Home);

/// The pairs that lie ready, and what makes more.
pub struct Ahead {
    /// How many RSA_2048 at most; of each other kind there is one, unless this is 0.
    most: usize,
    make: Arc<Lane>,
    worker: Worker,
    entropy: Entropy,
    shelves: Mutex<BTreeMap<Kind, Shelf>>,
}

#[derive(Default)]
struct Shelf {
    ready: Vec<WrappingPair>,
    making: bool,
}

impl Ahead {
    /// Nothing lies ready before a kind is first asked for. Pairs of the token are made on
    /// `make`, the others on `worker`.
    #[must_use]
    pub fn new(most: usize, make: Arc<Lane>, worker: Worker, entropy: Entropy) -> Arc<Self> {
        Arc::new(Self { most, make, worker, entropy, shelves: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pair that nobody else gets; made now where none lies ready.
    ///
    /// # Errors
    /// `Busy`, or why the token or the generator failed.
    pub async fn take(self: &Arc<Self>, spec: WrappingKeySpec, home: Home) -> Result<WrappingPair, Failure> {
        let kind = (spec, home);
        let ready = self.lock().entry(kind).or_default().ready.pop();
        let pair = match ready {
            Some(pair) => Ok(pair),
            None => self.make(kind).await,
        };
        self.fill(kind);
        pair
    }

    /// How many lie ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.lock().values().map(|shelf| shelf.ready.len()).sum()
    }

    async fn make(&self, (spec, home): Kind) -> Result<WrappingPair, Failure> {
        match home {
            Home::Hsm => Ok(of_answer(self.make.run(generate(spec)).await)?),
            Home::Memory => {
                let (send, receive) = oneshot::channel();
                let entropy = self.entropy.clone();
                let job = move || drop(send.send(in_memory(spec, &entropy)));
                self.worker.submit(job).map_err(|_| {
                    Failure::new(Code::Busy, "too many wrapping keys are being made; try again")
                })?;
                receive.await.map_err(|_| Code::Internal)?
            }
        }
    }

    /// Makes one more in the background, unless there are enough or one is being made.
    fn fill(self: &Arc<Self>, kind: Kind) {
        let wanted = if kind.0 == WrappingKeySpec::Rsa2048 { self.most } else { self.most.min(1) };
        {
            let mut all = self.lock();
            let kept = all.entry(kind).or_default();
            if kept.making || kept.ready.len() >= wanted {
                return;
            }
            kept.making = true;
        }
        let ahead = Arc::clone(self);
        let begun = match kind.1 {
            Home::Hsm => {
                let then = move |outcome| ahead.made(kind, of_answer(outcome).map_err(Failure::from));
                self.make.run_then(generate(kind.0), then).is_ok()
            }
            Home::Memory => {
                let job = move || ahead.made(kind, in_memory(kind.0, &ahead.entropy));
                self.worker.submit(job).is_ok()
            }
        };
        if !begun {
            // Whoever asks next tries again.
            self.lock().entry(kind).or_default().making = false;
        }
    }

    fn made(self: &Arc<Self>, kind: Kind, made: Result<WrappingPair, Failure>) {
        let mut all = self.lock();
        let kept = all.entry(kind).or_default();
        kept.making = false;
        match made {
            Ok(pair) => kept.ready.push(pair),
            Err(error) => {
                tracing::warn!(spec = %kind.0, %error, "no wrapping key could be made ahead");
                return;
            }
        }
        drop(all);
        self.fill(kind);
    }
}

fn generate(spec: WrappingKeySpec) -> Command {
    let (spec, template) = match spec {
        WrappingKeySpec::Rsa2048 => (KeySpec::Rsa2048, Template::RsaDecrypt),
        WrappingKeySpec::Rsa3072 => (KeySpec::Rsa3072, Template::RsaDecrypt),
        WrappingKeySpec::Rsa4096 => (KeySpec::Rsa4096, Template::RsaDecrypt),
        WrappingKeySpec::Sm2 => (KeySpec::Sm2, Template::Sm2Decrypt),
    };
    Command::Generate { spec, template }
}

fn of_answer(outcome: Result<Answer, HsmError>) -> Result<WrappingPair, HsmError> {
    match outcome? {
        Answer::GeneratedPair { wrapped, public_key } => {
            Ok(WrappingPair { private: Private::Wrapped(wrapped), public_key })
        }
        _ => Err(HsmError::Fault("generate answered with something else".to_owned())),
    }
}

fn in_memory(spec: WrappingKeySpec, entropy: &Entropy) -> Result<WrappingPair, Failure> {
    let spec = match spec {
        WrappingKeySpec::Rsa2048 => KeyPairSpec::Rsa2048,
        WrappingKeySpec::Rsa3072 => KeyPairSpec::Rsa3072,
        WrappingKeySpec::Rsa4096 => KeyPairSpec::Rsa4096,
        WrappingKeySpec::Sm2 => KeyPairSpec::Sm2,
    };
    let (pkcs8, public_key) = PrivateKey::generate(spec, entropy)?;
    Ok(WrappingPair { private: Private::Memory(pkcs8), public_key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::hsm::command::{Token, WrapFormat};
    use crate::edge::Workers;
    use futures_util::FutureExt;

    /// Pairs with numbers for keys.
    struct Counting(u8);

    impl Token for Counting {
        fn execute(&mut self, command: &Command) -> Result<Answer, HsmError> {
            assert!(matches!(command, Command::Generate { .. }));
            self.0 += 1;
            let wrapped = Wrapped { format: WrapFormat::AesKwp, generation: 1, blob: vec![self.0] };
            Ok(Answer::GeneratedPair { wrapped, public_key: vec![self.0] })
        }
    }

    #[test]
    fn a_few_lie_ready_and_each_is_given_out_once() {
        let (workers, hand) = Workers::manual();
        let lane = Lane::queued(Box::new(Counting(0)), workers.start("make", 8).unwrap());
        let worker = workers.start("ahead", 8).unwrap();
        let ahead = Ahead::new(2, lane, worker, Entropy::seeded(1));
        let settle = || while (0..2).any(|queue| hand.step(queue).is_some()) {};
        settle();
        assert_eq!(ahead.ready(), 0, "nothing before somebody asks");
        let mut given = Vec::new();
        let mut waiting = Box::pin(ahead.take(WrappingKeySpec::Rsa2048, Home::Hsm));
        assert!((&mut waiting).now_or_never().is_none());
        settle();
        given.push(waiting.now_or_never().unwrap().unwrap().public_key);
        settle();
        assert_eq!(ahead.ready(), 2);
        for _ in 0..5 {
            let pair = ahead.take(WrappingKeySpec::Rsa2048, Home::Hsm).now_or_never().unwrap().unwrap();
            given.push(pair.public_key);
            settle();
            assert_eq!(ahead.ready(), 2);
        }
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 6);
        // One of every other kind, in memory too.
        let mut waiting = Box::pin(ahead.take(WrappingKeySpec::Sm2, Home::Memory));
        assert!((&mut waiting).now_or_never().is_none());
        settle();
        let pair = waiting.now_or_never().unwrap().unwrap();
        assert!(matches!(pair.private, Private::Memory(_)));
        settle();
        assert_eq!(ahead.ready(), 3);
    }

    #[test]
    fn none_is_made_ahead_where_the_limit_says_so() {
        let (workers, hand) = Workers::manual();
        let lane = Lane::queued(Box::new(Counting(0)), workers.start("make", 8).unwrap());
        let ahead = Ahead::new(0, lane, workers.start("ahead", 8).unwrap(), Entropy::seeded(1));
        let mut waiting = Box::pin(ahead.take(WrappingKeySpec::Rsa2048, Home::Hsm));
        assert!((&mut waiting).now_or_never().is_none());
        while hand.step(0).is_some() {}
        assert!(waiting.now_or_never().unwrap().is_ok());
        assert!(hand.step(0).is_none() && ahead.ready() == 0);
    }
}
