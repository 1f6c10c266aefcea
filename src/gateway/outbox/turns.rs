//! Whose turn it is among the tables of one connection. Pure.

use std::collections::VecDeque;

use super::push_first_exactly;
use crate::domain::TableId;

/// What a table is to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Class {
    /// Its player holds a seat: what comes of it may answer a command of its own.
    Seated,
    /// It only looks on.
    Watched,
}

impl Class {
    fn other(self) -> Self {
        match self {
            Self::Seated => Self::Watched,
            Self::Watched => Self::Seated,
        }
    }
}

/// Frames of tables with a seat that go out in a row while one of another table waits.
const SEATED_IN_A_ROW: u8 = 4;

/// Tables that have something to send, each once: in turn within a class, seats before the rest, and nobody kept
/// waiting for ever.
#[derive(Debug, Default)]
pub(super) struct Turns {
    seated: VecDeque<TableId>,
    watched: VecDeque<TableId>,
    in_a_row: u8,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.seated.is_empty() && self.watched.is_empty()
    }

    /// How many tables of this class wait.
    pub(super) fn len(&self, class: Class) -> usize {
        match class {
            Class::Seated => self.seated.len(),
            Class::Watched => self.watched.len(),
        }
    }

    fn of(&mut self, class: Class) -> &mut VecDeque<TableId> {
        match class {
            Class::Seated => &mut self.seated,
            Class::Watched => &mut self.watched,
        }
    }

    /// The class to be asked first, then the other.
    pub(super) fn order(&self) -> [Class; 2] {
        let first = if self.in_a_row < SEATED_IN_A_ROW { Class::Seated } else { Class::Watched };
        [first, first.other()]
    }

    pub(super) fn take_first(&mut self, class: Class) -> Option<TableId> {
        self.of(class).pop_front()
    }

    /// To the end of its class.
    pub(super) fn give(&mut self, class: Class, table: TableId) {
        push_first_exactly(self.of(class), table);
    }

    /// To where it was taken from.
    pub(super) fn give_back(&mut self, class: Class, table: TableId) {
        self.of(class).push_front(table);
    }

    /// A frame of this class goes out.
    pub(super) fn has_sent(&mut self, class: Class) {
        self.in_a_row = match class {
            Class::Seated if !self.watched.is_empty() => self.in_a_row.saturating_add(1),
            Class::Seated | Class::Watched => 0,
        };
    }

    pub(super) fn remove(&mut self, class: Class, table: TableId) {
        self.of(class).retain(|other| *other != table);
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        for turns in [&mut self.seated, &mut self.watched] {
            if turns.is_empty() {
                *turns = VecDeque::new();
            }
        }
    }
}
