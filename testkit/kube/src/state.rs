//! Objects, what happened to them, and what those who watch are told.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Cut, KINDS};

#[derive(Default)]
pub(crate) struct State {
    objects: Mutex<Objects>,
    settings: Mutex<Settings>,
    /// Changes whenever a watch has something to do.
    pub(crate) wake: watch::Sender<u64>,
    running: AtomicUsize,
}

#[derive(Default)]
struct Objects {
    version: u64,
    /// What happened before this version is forgotten.
    oldest: u64,
    /// By kind, namespace and name.
    now: BTreeMap<(String, String, String), Value>,
    log: Vec<Happened>,
    /// What all watches are ordered to do, and when.
    orders: Vec<Order>,
    /// Lists that go on, by their tokens.
    lists: HashMap<String, (u64, Vec<Value>)>,
}

/// Something that happened to an object.
#[derive(Clone)]
pub(crate) struct Happened {
    pub(crate) version: u64,
    pub(crate) plural: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// What a watch has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Cut(Cut),
    Error(u16),
    Bookmark,
}

#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) faults: Vec<Fault>,
    pub(crate) token: Option<String>,
    pub(crate) requests: Vec<String>,
    pub(crate) gone_by_status: bool,
}

pub(crate) struct Fault {
    pub(crate) part: String,
    pub(crate) status: u16,
    pub(crate) times: usize,
}

/// A watch that runs, as long as this lives.
pub(crate) struct Running<'a>(&'a State);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl State {
    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock()
    }

    pub(crate) fn run(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(self)
    }

    pub(crate) fn watches(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn woken(&self) {
        self.wake.send_modify(|n| *n += 1);
    }

    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let (_, kind, group, namespaced) = KINDS
            .into_iter()
            .find(|(known, ..)| *known == plural)
            .unwrap_or_else(|| panic!("no kind {plural}"));
        let text = |object: &Value, key: &str| {
            let text = object["metadata"][key].as_str();
            text.unwrap_or("").to_owned()
        };
        let name = text(&object, "name");
        let mut namespace = text(&object, "namespace");
        assert!(!name.is_empty(), "an object of {plural} has no name");
        if namespaced && namespace.is_empty() {
            namespace = "default".to_owned();
            object["metadata"]["namespace"] = "default".into();
        }
        let mut objects = self.objects.lock();
        let objects = &mut *objects;
        objects.version += 1;
        object["apiVersion"] = group.into();
        object["kind"] = kind.into();
        object["metadata"]["resourceVersion"] = objects.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("{plural}-{namespace}-{name}").into();
        }
        let key = (plural.to_owned(), namespace, name);
        let before = objects.now.insert(key, object.clone());
        objects.log.push(Happened {
            version: objects.version,
            plural: plural.to_owned(),
            before,
            after: Some(object),
        });
        self.woken();
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut objects = self.objects.lock();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(before) = objects.now.remove(&key) {
            objects.version += 1;
            let version = objects.version;
            objects.log.push(Happened {
                version,
                plural: plural.to_owned(),
                before: Some(before),
                after: None,
            });
        }
        self.woken();
    }

    pub(crate) fn compact(&self) {
        let mut objects = self.objects.lock();
        objects.version += 1;
        objects.oldest = objects.version;
        objects.log.clear();
        objects.lists.clear();
    }

    fn order(&self, order: Order) {
        self.objects.lock().orders.push(order);
        self.woken();
    }

    pub(crate) fn cut(&self, how: Cut) {
        self.order(Order::Cut(how));
    }

    pub(crate) fn send_error(&self, code: u16) {
        self.order(Order::Error(code));
    }

    pub(crate) fn bookmark(&self) {
        self.order(Order::Bookmark);
    }

    /// The version, and all objects of a kind that `keep` keeps.
    pub(crate) fn list(&self, plural: &str, keep: impl Fn(&Value) -> bool) -> (u64, Vec<Value>) {
        let objects = self.objects.lock();
        let mine = objects.now.iter().filter(|((kind, ..), _)| kind == plural);
        let items = mine.map(|(_, o)| o).filter(|o| keep(o)).cloned();
        (objects.version, items.collect())
    }

    /// Keeps the rest of a list under a token.
    pub(crate) fn keep_list(&self, version: u64, rest: Vec<Value>) -> String {
        let mut objects = self.objects.lock();
        let token = format!("list-{}-{}", version, objects.lists.len());
        objects.lists.insert(token.clone(), (version, rest));
        token
    }

    /// The rest of a list; nothing if it is forgotten.
    pub(crate) fn go_on(&self, token: &str) -> Option<(u64, Vec<Value>)> {
        self.objects.lock().lists.remove(token)
    }

    /// Whether what happened since `version` is still known.
    pub(crate) fn remembers(&self, version: u64) -> bool {
        version >= self.objects.lock().oldest
    }

    /// How many orders were given so far.
    pub(crate) fn orders(&self) -> usize {
        self.objects.lock().orders.len()
    }

    /// What happened after `version` and which orders came after the first `orders`.
    pub(crate) fn since(&self, version: u64, orders: usize) -> (u64, Vec<Happened>, Vec<Order>) {
        let objects = self.objects.lock();
        let log = objects.log.iter().filter(|h| h.version > version);
        let orders = objects.orders.iter().skip(orders);
        (
            objects.version,
            log.cloned().collect(),
            orders.copied().collect(),
        )
    }
}

/// A failure as the API server writes it.
pub(crate) fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}
