//! Whose token is this? The answers of `TokenReview`.
//!
//! Owns the real server's way to judge: an unknown token, and one for another audience, is not authenticated; a good
//! one comes back with those of the audiences asked for that it is good for. A test may also put any answer in the
//! place of that, to see what becomes of a server that says too much or too little.

use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What the server knows of a token.
#[derive(Clone, Debug)]
pub struct Token {
    username: String,
    audiences: Vec<String>,
    extra: Map<String, Value>,
}

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: HashMap<String, Token>,
    forced: HashMap<String, Value>,
}

// === impl Token ===

impl Token {
    /// The token of a service account for some audiences.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, audiences: &[&str]) -> Self {
        Self::of_user(
            &format!("system:serviceaccount:{namespace}:{name}"),
            audiences,
        )
    }

    /// The token of any user.
    #[must_use]
    pub fn of_user(username: &str, audiences: &[&str]) -> Self {
        Self {
            username: username.to_owned(),
            audiences: audiences.iter().map(|&text| text.to_owned()).collect(),
            extra: Map::new(),
        }
    }

    /// Bound to a pod, and the server says so.
    #[must_use]
    pub fn bound_to(mut self, pod: &str, uid: &str) -> Self {
        let mut add = |key: &str, value: &str| {
            let key = format!("authentication.kubernetes.io/{key}");
            self.extra.insert(key, json!([value]));
        };
        add("pod-name", pod);
        add("pod-uid", uid);
        self
    }
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn add(&mut self, text: &str, token: Token) {
        self.known.insert(text.to_owned(), token);
    }

    pub(super) fn force(&mut self, text: &str, status: Value) {
        self.forced.insert(text.to_owned(), status);
    }

    /// Answers a review: the object that was sent, with its status.
    pub(super) fn review(&self, mut review: Value) -> Value {
        let text = review.pointer("/spec/token").and_then(Value::as_str);
        let text = text.unwrap_or_default().to_owned();
        let asked = review.pointer("/spec/audiences").and_then(Value::as_array);
        let asked: Vec<String> = asked
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect();
        let status = match self.forced.get(&text) {
            Some(status) => status.clone(),
            None => self.judge(&text, &asked),
        };
        if let Some(review) = review.as_object_mut() {
            review.insert("status".to_owned(), status);
        }
        review
    }

    fn judge(&self, text: &str, asked: &[String]) -> Value {
        let Some(token) = self.known.get(text) else {
            return json!({"user": {}, "error": "[invalid bearer token, service account token is not valid]"});
        };
        let good: Vec<&String> = asked
            .iter()
            .filter(|asked| token.audiences.contains(asked))
            .collect();
        if good.is_empty() {
            let error = format!(
                "[invalid bearer token, token audiences {:?} is invalid for the target audiences {asked:?}]",
                token.audiences
            );
            return json!({"user": {}, "error": error});
        }
        let mut user = json!({
            "username": token.username,
            "uid": "11111111-1111-4111-8111-111111111111",
            "groups": ["system:serviceaccounts", "system:authenticated"],
        });
        if let Some(user) = user.as_object_mut()
            && !token.extra.is_empty()
        {
            user.insert("extra".to_owned(), token.extra.clone().into());
        }
        json!({"authenticated": true, "user": user, "audiences": good})
    }
}
