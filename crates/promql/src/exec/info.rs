//! `info(v, {selector})`: adds the labels of info metrics that share `instance` and `job`.

use std::sync::Arc;

use futures_util::stream::TryStreamExt as _;
use hashbrown::{HashMap, HashSet};
use model::{Matcher, Symbol};

use super::block::{Block, Pair, Row, RowRef, count, is_set, value_of};
use super::context::{Context, Weigh as _, execution};
use super::index::LabelIndex;
use super::meter::{Counts, Meter};
use super::operator::{Blocks, Description, Operator, Yield, blocking};
use super::pace::Pace;
use super::pipe::Pipe;
use super::tally::Steps;
use crate::grid::Grid;
use crate::value::QueryError;

/// Joins series with the newest info samples.
pub(crate) struct Info {
    pub(crate) base: Pipe,
    /// Info series; their values are the samples' own times, in seconds.
    pub(crate) info: Pipe,
    /// What the info metric's name must satisfy; base series that do are info metrics themselves.
    pub(crate) names: Vec<Matcher>,
    /// Which labels are wanted; all, if there are none.
    pub(crate) data: Vec<Matcher>,
    pub(crate) grid: Grid,
    /// Which part of the plan its steps are those of.
    pub(crate) part: usize,
    /// Counts the info series that are joined.
    pub(crate) meter: Arc<Meter>,
}

impl Operator for Info {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        blocking(async move {
            let base: Vec<Block> = self.base.blocks(&cx).try_collect().await?;
            let info: Vec<Block> = self.info.blocks(&cx).try_collect().await?;
            let bytes = base.weight() + info.weight();
            let block = cx
                .run(bytes, move |cx| self.joined(cx, &base, &info))
                .await?;
            Ok(vec![block])
        })
    }

    fn describe(&self) -> Description {
        let joined = Description::new("", true, "")
            .metered(&self.meter)
            .yields(Yield::Beside)
            .over([self.info.describe().yields(Yield::Elsewhere)]);
        Description::new("Info", false, "(series + info series) x steps x 8 B")
            .yields(Yield::Joined)
            .over([self.base.describe(), joined])
    }
}

/// The info series of one metric, instance and job.
struct Group<'a> {
    rows: Vec<RowRef<'a>>,
    /// At each step the newest row's number; `NONE` where there is none.
    newest: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Info {
    fn joined(&self, cx: &Context, base: &[Block], info: &[Block]) -> Result<Block, QueryError> {
        let symbols = &cx.scope.symbols;
        let steps = self.grid.count;
        let name = cx.name_symbol();
        let identifying = ["instance", "job"].map(|n| symbols.intern(n));
        let is_info = |row: &RowRef<'_>| {
            let name = symbols.get(value_of(row.labels, name));
            self.names.iter().all(|m| m.matches(name))
        };
        // Only info series of instances and jobs that occur can matter.
        let mut known: [HashSet<Symbol>; 2] = Default::default();
        let mut present = vec![false; steps];
        let mut pace = Pace::default();
        for row in base.iter().flat_map(Block::rows) {
            pace.step(cx, steps)?;
            super::block::each_set(row.bits, |i| present[i] = true);
            if is_info(&row) {
                continue;
            }
            for (label, values) in identifying.iter().zip(&mut known) {
                let value = value_of(row.labels, *label);
                if value != Symbol::EMPTY {
                    values.insert(value);
                }
            }
        }
        let mut index = LabelIndex::default();
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut metrics: Vec<Symbol> = Vec::new();
        let mut counts = Counts::default();
        let mut beside = cx.growing()?;
        let mut looked_at = cx.tally.as_ref().map(|_| Steps::new(steps));
        for row in info.iter().flat_map(Block::rows) {
            pace.step(cx, steps)?;
            // A reference, and perhaps a group, which knows the newest at each step.
            beside.add(size_of_val(&row) + size_of::<Group<'_>>() + steps * 4 + 64)?;
            let ids = identifying.map(|l| value_of(row.labels, l));
            let wanted = known.iter().any(|values| !values.is_empty())
                && known
                    .iter()
                    .zip(ids)
                    .all(|(values, id)| values.is_empty() || values.contains(&id));
            if !wanted {
                continue;
            }
            counts.samples(count(row.bits), count(row.bits));
            if let Some(looked_at) = &mut looked_at {
                looked_at.present(row);
            }
            let metric = value_of(row.labels, name);
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
            let (g, new) = index.intern(&[
                (name, metric),
                (identifying[0], ids[0]),
                (identifying[1], ids[1]),
            ]);
            if new {
                groups.push(Group {
                    rows: Vec::new(),
                    newest: vec![NONE; steps],
                });
            }
            groups[g].rows.push(row);
        }
        self.meter.add(&counts);
        if let (Some(tally), Some(looked_at)) = (&cx.tally, &looked_at) {
            tally.add(self.part, looked_at);
        }
        cx.count(counts.samples)?;
        for group in &mut groups {
            group.choose(cx, &present)?;
        }
        let all_may_be_empty = self.data.iter().all(Matcher::matches_empty);
        let wanted: Vec<Symbol> = self.data.iter().map(|m| symbols.intern(&m.name)).collect();

        let mut out = cx.build(steps)?;
        let mut row = Row::default();
        for base in base.iter().flat_map(Block::rows) {
            pace.step(cx, steps * 16)?;
            if is_info(&base) {
                out.push(base)?;
                continue;
            }
            let ids = identifying.map(|l| value_of(base.labels, l));
            let of_base: Vec<&Group<'_>> = metrics
                .iter()
                .filter_map(|metric| {
                    let key = [
                        (name, *metric),
                        (identifying[0], ids[0]),
                        (identifying[1], ids[1]),
                    ];
                    index.find(&key).map(|g| &groups[g])
                })
                .collect();
            // Steps with the same choice of info series have the same labels.
            let mut choices: HashMap<Vec<u32>, Vec<usize>> = HashMap::new();
            let mut order = Vec::new();
            for i in (0..steps).filter(|i| is_set(base.bits, *i)) {
                let choice: Vec<u32> = of_base.iter().map(|g| g.newest[i]).collect();
                choices
                    .entry(choice)
                    .or_insert_with_key(|choice| {
                        order.push(choice.clone());
                        Vec::new()
                    })
                    .push(i);
            }
            for choice in &order {
                let chosen = of_base.iter().zip(choice).filter(|(_, n)| **n != NONE);
                let chosen: Vec<&[Pair]> =
                    chosen.map(|(g, n)| g.rows[*n as usize].labels).collect();
                if chosen.is_empty() && !all_may_be_empty {
                    continue;
                }
                row.reset(steps);
                row.labels.extend_from_slice(base.labels);
                row.drop_name = base.drop_name;
                for labels in chosen {
                    for &(label, value) in labels {
                        if label == name || !(wanted.is_empty() || wanted.contains(&label)) {
                            continue;
                        }
                        if value_of(base.labels, label) != Symbol::EMPTY {
                            continue;
                        }
                        let before = row.get(label);
                        if before != Symbol::EMPTY && before != value {
                            let label = symbols.get(label);
                            return Err(execution(format!("conflicting label: {label}")));
                        }
                        row.set(label, value, symbols);
                    }
                }
                for &i in choices.get(choice).into_iter().flatten() {
                    row.values[i] = base.values[i];
                    row.bits[i >> 6] |= 1 << (i & 63);
                    let h = base.histogram(i);
                    row.histograms.extend(h.map(|h| (i as u32, Arc::clone(h))));
                }
                out.push(row.as_ref())?;
            }
        }
        out.finish()
    }
}

impl Group<'_> {
    /// Finds the newest row at each step; two equally new ones are an error where anything could
    /// be joined.
    fn choose(&mut self, cx: &Context, present: &[bool]) -> Result<(), QueryError> {
        let mut pace = Pace::default();
        for (i, newest) in self.newest.iter_mut().enumerate() {
            pace.step(cx, self.rows.len())?;
            for (n, row) in self.rows.iter().enumerate() {
                if !present[i] || !is_set(row.bits, i) {
                    continue;
                }
                let Some(best) = self.rows.get(*newest as usize) else {
                    *newest = n as u32;
                    continue;
                };
                if best.values[i] < row.values[i] {
                    *newest = n as u32;
                } else if best.values[i] == row.values[i] {
                    let (a, b) = (cx.text(best.labels), cx.text(row.labels));
                    let (ta, tb) = (best.values[i] * 1000.0, row.values[i] * 1000.0);
                    return Err(execution(format!(
                        "found duplicate series for info metric: existing {a} @ {ta:.0}, new {b} @ {tb:.0}"
                    )));
                }
            }
        }
        Ok(())
    }
}
