//! What a request to an app or an external target failed of, in the words of the reference.
//!
//! Reads the chain of causes; decides nothing.

use std::{error::Error, io};

use hyper_util::client::legacy;
use ironside_policy::Verb;

use crate::{
    body::BodyError,
    channel::{ChannelError, stale::Stale},
    peers::io_text,
};

/// A failed request in the words of the reference.
pub(crate) fn send_error(
    verb: Verb,
    url: &str,
    error: &legacy::Error,
    authority: &str,
) -> ChannelError {
    let mut cause: &(dyn Error + 'static) = error;
    let mut text = None;
    let mut never_begun = false;
    loop {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            text = Some(body.to_string());
        } else if let Some(refused) = tls_refusal(cause) {
            text = Some(format!("tls: failed to verify certificate: {refused}"));
        } else if let Some(io) = cause.downcast_ref::<io::Error>()
            && Stale::is(io)
        {
            never_begun = true;
            text = Some("EOF".to_owned());
            break;
        } else if let Some(io) = cause.downcast_ref::<io::Error>() {
            let text_of_io = io_text(io);
            text = Some(if error.is_connect() {
                format!("dial tcp {authority}: {text_of_io}")
            } else {
                text_of_io
            });
        } else if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && hyper.is_incomplete_message()
        {
            text = Some("EOF".to_owned());
        }
        match cause.source() {
            Some(next) => cause = next,
            None => break,
        }
    }
    let (verb, url) = (title(verb), url.into());
    let cause = text.unwrap_or_else(|| cause.to_string()).into();
    if never_begun {
        ChannelError::NotBegun { verb, url, cause }
    } else if error.is_connect() {
        ChannelError::Unreached { verb, url, cause }
    } else {
        ChannelError::Send { verb, url, cause }
    }
}

/// Why a certificate was refused, if that is what the error says.
fn tls_refusal(cause: &(dyn Error + 'static)) -> Option<String> {
    // An I/O error hides the error inside it from the chain of sources.
    let mut hidden = cause.downcast_ref::<io::Error>()?.get_ref()?;
    while let Some(io) = hidden.downcast_ref::<io::Error>() {
        hidden = io.get_ref()?;
    }
    let rustls::Error::InvalidCertificate(why) = hidden.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    Some(if *why == rustls::CertificateError::UnknownIssuer {
        "x509: certificate signed by unknown authority".to_owned()
    } else {
        format!("x509: {why}")
    })
}

/// A verb as the reference's error texts spell it.
pub(super) fn title(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "Get",
        Verb::Head => "Head",
        Verb::Put => "Put",
        Verb::Delete => "Delete",
        Verb::Options => "Options",
        Verb::Trace => "Trace",
        Verb::Patch => "Patch",
        Verb::Post | Verb::None | Verb::Connect => "Post",
    }
}
