//! Pass: selectors of the same data are read once.

use model::{Order, Projection, Select};

use crate::exec::selects::Question;

/// Adds a question, or joins an earlier one with the same matchers whose range overlaps; the
/// answer is the question's number.
pub(crate) fn ask(questions: &mut Vec<Question>, select: Select) -> usize {
    for (id, question) in questions.iter_mut().enumerate() {
        let asked = &mut question.select;
        if asked.matchers != select.matchers
            || asked.max_resolution != select.max_resolution
            || !asked.range.overlaps(select.range)
        {
            continue;
        }
        // Whoever wants any order takes that of labels, too.
        if select.order != Order::Any {
            asked.order = select.order;
        }
        asked.range = asked.range.union(select.range);
        asked.aggregates |= select.aggregates;
        let (a, b) = (&mut asked.hints, select.hints);
        if a.func != b.func || a.range != b.range {
            a.func = None;
            a.range = 0;
        }
        if a.grouping != b.grouping {
            a.grouping = None;
        }
        if a.projection != b.projection {
            a.projection = Projection::All;
        }
        question.readers += 1;
        return id;
    }
    questions.push(Question { select, readers: 1 });
    questions.len() - 1
}
