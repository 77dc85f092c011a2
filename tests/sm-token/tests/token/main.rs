//! The SM test token as any application sees it: its numbers, its results beside those
//! of others, its keys, its lies.

mod common;
mod keys;
mod liars;
mod numberings;
mod oracles;
