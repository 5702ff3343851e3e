//! What a stored text is to the state of an authority of our own.
//!
//! Owns the comparison by which a store tells a crash from somebody's own content: as the state says, or as it was one
//! change ago, or neither.

use super::{Texts, mark};
use crate::rotation::State;
use crate::rotation::state::Marks;

/// What one of the three texts is to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    Current,
    /// As it was before the last change.
    Previous,
    Missing,
    /// Somebody's own.
    Foreign,
}

// === impl Image ===

impl Image {
    /// Compares root, issuer and key as they were found with those of a state.
    pub(super) fn all(found: [Option<&[u8]>; 3], state: &State) -> [Self; 3] {
        let current = in_order(Some(state.texts().marks()));
        let previous = in_order(state.previous.clone());
        let mut images = [Self::Missing; 3];
        let texts = found.into_iter().zip(current).zip(previous);
        for (image, ((found, current), previous)) in images.iter_mut().zip(texts) {
            let Some(text) = found else { continue };
            let found = Some(mark(text));
            *image = match found {
                found if found == current => Self::Current,
                found if found == previous => Self::Previous,
                _ => Self::Foreign,
            };
        }
        images
    }
}

impl Texts {
    /// Root, issuer and key.
    pub(super) fn in_order(self) -> [Vec<u8>; 3] {
        let Self { root, issuer, key } = self;
        [root, issuer, key]
    }
}

fn in_order(marks: Option<Marks>) -> [Option<String>; 3] {
    let Some(Marks { root, issuer, key }) = marks else {
        return [const { None }; 3];
    };
    [root, issuer, key].map(Some)
}
