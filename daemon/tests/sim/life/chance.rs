//! What the dice do next: operations on keys that are there, and on some that aren't.

use claviger_protocol::names::KeyRef;
use claviger_protocol::{KeyOrigin, KeySpec, KeyState, Protection};
use uuid::Uuid;

use super::Life;
use super::ops::{Op, Plan, SERVICE, What, default_alias};

/// Keys of one life at most, so that its steps meet on the same.
const MAX_KEYS: usize = 7;

impl Life {
    pub(super) fn pick<T: Clone>(&self, from: &[T]) -> T {
        from[self.sim.roll(from.len())].clone()
    }

    fn once_in(&self, times: usize) -> bool {
        self.sim.roll(times) == 0
    }

    fn token(&self) -> [u8; 16] {
        u128::try_from(self.sim.roll(usize::MAX)).unwrap().to_le_bytes()
    }

    fn project(&self) -> String {
        self.pick(&["default", "p1", "p2"]).to_owned()
    }

    fn alias(&self) -> String {
        let name = self.pick(&["alias/a", "alias/b", "alias/c/d", "alias/e"]);
        if self.once_in(30) { format!("alias/{SERVICE}/own") } else { name.to_owned() }
    }

    fn days(&self) -> Option<u16> {
        self.pick(&[None, Some(7), Some(30), Some(400)])
    }

    /// A key by its id; a live one more often than not.
    fn id(&self) -> Uuid {
        let keys = &self.model.world.keys;
        let live = keys.iter().filter(|(_, key)| key.state != KeyState::Deleted).map(|(id, _)| *id);
        let live: Vec<_> = live.collect();
        match self.sim.roll(20) {
            0 => Uuid::from_u128(0xbad),
            1..=2 if !keys.is_empty() => *keys.keys().nth(self.sim.roll(keys.len())).unwrap(),
            _ if live.is_empty() => Uuid::from_u128(0xbad),
            _ => self.pick(&live),
        }
    }

    /// A key by its id; where nothing else is under way by an alias too.
    fn name(&self, alone: bool) -> KeyRef {
        if alone && self.once_in(4) {
            let default = self.once_in(4);
            return KeyRef::Alias(if default { default_alias() } else { self.alias() });
        }
        KeyRef::Id(self.id())
    }

    fn plan(&mut self) -> Plan {
        self.marks += 1;
        let spec = self.pick(&[
            KeySpec::Aes256,
            KeySpec::Aes256,
            KeySpec::Aes256,
            KeySpec::Aes256,
            KeySpec::Sm4,
            KeySpec::Hmac256,
            KeySpec::EcP256,
        ]);
        let hsm = spec == KeySpec::Aes256 && self.once_in(2);
        Plan {
            token: self.token(),
            spec,
            protection: if hsm { Protection::Hsm } else { Protection::Software },
            origin: if self.once_in(8) { KeyOrigin::External } else { KeyOrigin::Kms },
            project: self.project(),
            alias: self.once_in(3).then(|| self.alias()),
            rotation_days: if self.once_in(2) { self.days() } else { None },
            mark: format!("mark {}", self.marks),
        }
    }

    /// The next operation; `alone` where no other runs beside it.
    pub(super) fn op(&mut self, alone: bool) -> Op {
        let few = self.model.world.keys.len();
        if few < 2 || (few < MAX_KEYS && self.once_in(8)) {
            return Op::Create(self.plan());
        }
        match self.sim.roll(26) {
            0..4 => self.switch(alone),
            4 | 5 => Op::Schedule {
                key: self.name(alone),
                days: self.pick(&[None, Some(7), Some(7), Some(8), Some(6), Some(1096)]),
                force: !alone || self.once_in(2),
            },
            6 | 7 => Op::Rotate { token: self.token(), key: self.name(alone) },
            8 => Op::CreateVersion { token: self.token(), key: self.name(alone) },
            9 => Op::SetRotation(self.name(alone), self.days()),
            10 | 11 => Op::CreateAlias(self.alias(), self.name(alone)),
            12 => Op::UpdateAlias(self.alias(), self.name(alone)),
            13 => Op::DeleteAlias(self.alias()),
            14 => Op::CreateProject(self.project()),
            15 => Op::DeleteProject(self.project()),
            16 => Op::DescribeAs(self.name(alone), format!("text {}", self.sim.roll(3))),
            17 => {
                if self.once_in(2) {
                    Op::CreateDefault
                } else {
                    Op::FirstUse(self.text())
                }
            }
            18 if !self.made.is_empty() => self.pick(&self.made),
            19 => Op::Describe(self.name(alone)),
            20 | 21 if !self.blobs.is_empty() => Op::Decrypt(self.pick(&self.blobs)),
            _ => Op::Encrypt(self.name(alone), self.text()),
        }
    }

    fn text(&self) -> Vec<u8> {
        format!("plaintext {}", self.sim.roll(1000)).into_bytes()
    }

    fn switch(&mut self, alone: bool) -> Op {
        let what = match self.sim.roll(9) {
            0 | 1 => What::Enable,
            2 | 3 => What::Disable,
            4 => What::Cancel { enable: self.once_in(2) },
            5 => What::Protect(self.once_in(3)),
            6 => What::Tag(self.pick(&["t1", "t2"]), format!("v{}", self.sim.roll(2))),
            7 => What::Untag(self.pick(&["t1", "t2"])),
            _ => What::Move(self.project()),
        };
        let count = if alone { 1 + self.sim.roll(3) } else { 1 };
        Op::Each(what, (0..count).map(|_| self.name(alone)).collect())
    }
}
