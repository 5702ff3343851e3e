//! PEM in and out, strictly.
//!
//! Owns which blocks a file of certificates or keys may hold. The reference stops in silence at the first block
//! that it doesn't know and loses the rest (security 1.8); here an unknown, broken or cut block is an error that
//! names it. Text between blocks is a comment. Knows nothing about what the certificates say.

use ::pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};

const CERTIFICATE: &str = "CERTIFICATE";
const PKCS8: &str = "PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// Why a text is not the PEM that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No block at all.
    #[error("no PEM block of type {expected:?} found")]
    Missing {
        /// The type that was looked for.
        expected: &'static str,
    },
    /// A block is cut, or its base64 or its end line is wrong.
    #[error("PEM block number {number} is malformed")]
    Malformed {
        /// Which block, counted from 1.
        number: usize,
    },
    /// A block of another type.
    #[error("unsupported block type {label:?}")]
    Label {
        /// The type that was found.
        label: Box<str>,
    },
    /// More than the one block that was asked for, or text around it.
    #[error("exactly one PEM block is allowed, and nothing beside it")]
    NotAlone,
}

/// Reads all certificates of a PEM text, at least one.
///
/// # Errors
/// [`PemError`] if there is none, or if any block is broken or not a `CERTIFICATE`.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let blocks = blocks(text)?;
    if blocks.is_empty() {
        return Err(PemError::Missing {
            expected: CERTIFICATE,
        });
    }
    blocks
        .into_iter()
        .map(|block| match block.tag() {
            CERTIFICATE => Ok(CertificateDer::from(block.into_contents())),
            other => Err(PemError::Label {
                label: other.into(),
            }),
        })
        .collect()
}

/// Reads the one private key of a PEM text: PKCS#8, SEC1 (EC) or PKCS#1 (RSA).
///
/// # Errors
/// [`PemError`] if there is not exactly one block, or if it is of another type.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let mut blocks = blocks(text)?.into_iter();
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        return Err(match text.windows(BEGIN.len()).any(|w| w == BEGIN) {
            true => PemError::NotAlone,
            false => PemError::Missing { expected: PKCS8 },
        });
    };
    match block.tag() {
        PKCS8 => Ok(PrivatePkcs8KeyDer::from(block.into_contents()).into()),
        SEC1 => Ok(PrivateSec1KeyDer::from(block.into_contents()).into()),
        PKCS1 => Ok(PrivatePkcs1KeyDer::from(block.into_contents()).into()),
        other => Err(PemError::Label {
            label: other.into(),
        }),
    }
}

/// Reads a text that is one PEM block of one of the given types, with at most blanks around it.
///
/// # Errors
/// [`PemError`] if there is another block or type, or text beside the block.
pub fn only_block(text: &[u8], labels: &[&'static str]) -> Result<Vec<u8>, PemError> {
    let trimmed = text.trim_ascii();
    let mut blocks = blocks(trimmed)?.into_iter();
    let Some(block) = blocks.next() else {
        return Err(PemError::Missing {
            expected: labels.first().copied().unwrap_or_default(),
        });
    };
    // The block ends with its end line and nothing follows it on that line.
    let closed = trimmed.ends_with(format!("-----END {}-----", block.tag()).as_bytes());
    if blocks.next().is_some() || !trimmed.starts_with(BEGIN) || !closed {
        return Err(PemError::NotAlone);
    }
    if !labels.contains(&block.tag()) {
        return Err(PemError::Label {
            label: block.tag().into(),
        });
    }
    Ok(block.into_contents())
}

/// Writes certificates one after the other.
pub fn encode_certificates<'a, 'b: 'a>(
    chain: impl IntoIterator<Item = &'a CertificateDer<'b>>,
) -> String {
    chain
        .into_iter()
        .map(|certificate| encode(CERTIFICATE, certificate.as_ref()))
        .collect()
}

/// Writes a private key under the type that fits its encoding.
#[must_use]
pub fn encode_private_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Sec1(_) => SEC1,
        PrivateKeyDer::Pkcs1(_) => PKCS1,
        PrivateKeyDer::Pkcs8(_) | _ => PKCS8,
    };
    encode(label, key.secret_der())
}

/// Writes one block of the given type, lines ended by `\n`.
#[must_use]
pub fn encode(label: &str, contents: &[u8]) -> String {
    ::pem::encode_config(
        &Pem::new(label, contents),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}

/// All blocks, or an error at the first one that is broken. A cut block must not hide the ones after it, so the
/// begin and end lines are counted against what was read.
fn blocks(text: &[u8]) -> Result<Vec<Pem>, PemError> {
    let count = |marker: &[u8]| {
        text.windows(marker.len())
            .filter(|window| *window == marker)
            .count()
    };
    let expected = count(BEGIN);
    if expected == 0 && count(END) == 0 {
        return Ok(Vec::new());
    }
    let blocks = ::pem::parse_many(text).map_err(|_cause| PemError::Malformed {
        number: first_bad(text),
    })?;
    if blocks.len() != expected
        || expected != count(END)
        || blocks.iter().any(|b| b.contents().is_empty())
    {
        return Err(PemError::Malformed {
            number: first_bad(text),
        });
    }
    Ok(blocks)
}

/// The number of the first block that cannot be read, counted from 1.
fn first_bad(text: &[u8]) -> usize {
    let starts = text
        .windows(BEGIN.len())
        .enumerate()
        .filter(|(_, w)| *w == BEGIN)
        .map(|(at, _)| at);
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let good = |(from, to): (usize, usize)| {
        let block = text
            .get(from..to)
            .and_then(|block| ::pem::parse(block).ok());
        block.is_some_and(|block| !block.contents().is_empty())
    };
    1 + starts
        .iter()
        .copied()
        .zip(ends)
        .take_while(|range| good(*range))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(label: &str, bytes: &[u8]) -> String {
        encode(label, bytes)
    }

    #[test]
    fn several_certificates_with_comments_are_read() {
        let text = format!(
            "# root one\n{}\n# root two\r\n{}",
            block(CERTIFICATE, &[1]),
            block(CERTIFICATE, &[2, 3])
        );
        let read = certificates(text.as_bytes()).unwrap();
        assert_eq!(
            read,
            [
                CertificateDer::from(vec![1]),
                CertificateDer::from(vec![2, 3])
            ]
        );
        assert_eq!(
            certificates(encode_certificates(&read).as_bytes()).unwrap(),
            read
        );
    }

    #[test]
    fn lines_ended_by_crlf_are_read() {
        let text = block(CERTIFICATE, &[1; 100]).replace('\n', "\r\n");
        assert_eq!(
            certificates(text.as_bytes()).unwrap(),
            [CertificateDer::from(vec![1; 100])]
        );
    }

    /// Fact: security.md O-S10. The reference loses the second certificate in silence.
    #[test]
    fn unknown_and_broken_blocks_are_refused() {
        let good = block(CERTIFICATE, &[1]);
        let check = |text: String, expected: PemError| {
            assert_eq!(certificates(text.as_bytes()), Err(expected), "{text}");
        };
        check(
            String::new(),
            PemError::Missing {
                expected: CERTIFICATE,
            },
        );
        check(
            "just text".into(),
            PemError::Missing {
                expected: CERTIFICATE,
            },
        );
        check(
            format!("{}{good}", block(PKCS8, &[9])),
            PemError::Label {
                label: PKCS8.into(),
            },
        );
        check(
            format!("{good}{}", good.replace("-----END", "")),
            PemError::Malformed { number: 2 },
        );
        check(
            format!("{}{good}", good.replace("AQ==", "A!==")),
            PemError::Malformed { number: 1 },
        );
        check(
            format!("{good}-----BEGIN CERTIFICATE-----\nAQ=="),
            PemError::Malformed { number: 2 },
        );
        check(
            format!("{good}-----END CERTIFICATE-----\n"),
            PemError::Malformed { number: 2 },
        );
        check(
            good.replace("END CERTIFICATE", "END OTHER"),
            PemError::Malformed { number: 1 },
        );
        check(
            good.replace("AQ==\n", ""),
            PemError::Malformed { number: 1 },
        );
    }

    #[test]
    fn keys_of_three_encodings_are_read() {
        assert!(matches!(
            private_key(block(PKCS8, &[1]).as_bytes()),
            Ok(PrivateKeyDer::Pkcs8(_))
        ));
        assert!(matches!(
            private_key(block(SEC1, &[1]).as_bytes()),
            Ok(PrivateKeyDer::Sec1(_))
        ));
        assert!(matches!(
            private_key(block(PKCS1, &[1]).as_bytes()),
            Ok(PrivateKeyDer::Pkcs1(_))
        ));
        let refused = |text: String, expected: PemError| {
            assert_eq!(private_key(text.as_bytes()), Err(expected))
        };
        refused(
            block(CERTIFICATE, &[1]),
            PemError::Label {
                label: CERTIFICATE.into(),
            },
        );
        refused(block(PKCS8, &[1]).repeat(2), PemError::NotAlone);
        refused(String::new(), PemError::Missing { expected: PKCS8 });
    }

    /// Fact: security.md O-S3, K012.
    #[test]
    fn the_only_block_stands_alone() {
        const REQUEST: &str = "CERTIFICATE REQUEST";
        let labels = &[REQUEST, CERTIFICATE];
        let good = block(REQUEST, &[7]);
        let check = |text: String, expected: Result<Vec<u8>, PemError>| {
            assert_eq!(only_block(text.as_bytes(), labels), expected, "{text}");
        };
        check(good.clone(), Ok(vec![7]));
        check(format!("\n{good}\r\n "), Ok(vec![7]));
        check(block(CERTIFICATE, &[8]), Ok(vec![8]));
        check(good.repeat(2), Err(PemError::NotAlone));
        check(format!("text\n{good}"), Err(PemError::NotAlone));
        check(format!("{good}text"), Err(PemError::NotAlone));
        check(
            block(PKCS8, &[1]),
            Err(PemError::Label {
                label: PKCS8.into(),
            }),
        );
        check("text".into(), Err(PemError::Missing { expected: REQUEST }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
            drop(certificates(&bytes));
            drop(private_key(&bytes));
            drop(only_block(&bytes, &[CERTIFICATE]));
        }

        #[test]
        fn mangled_blocks_are_answered(text in "(-----(BEGIN|END) [A-Z ]{0,12}-----|[A-Za-z0-9+/=\n -]{0,20}){0,8}") {
            drop(certificates(text.as_bytes()));
            drop(only_block(text.as_bytes(), &[CERTIFICATE]));
        }

        #[test]
        fn writing_and_reading_agree(chain in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..5)) {
            let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
            prop_assert_eq!(certificates(encode_certificates(&chain).as_bytes()).unwrap(), chain);
        }
    }
}
