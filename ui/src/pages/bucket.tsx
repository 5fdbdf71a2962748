// What lies in the bucket, for ever.
import { useContext } from 'preact/hooks';
import type { BucketData } from '../api';
import { SharedContext } from '../context';
import { ago, bytes, count, dateTime, span } from '../format';
import { usePolled, useTick } from '../hooks';
import { Empty, ErrorNotice, Notice, Spinner } from '../parts';
import { BlockTable } from './blocks';

export function BucketPage() {
  const { utc } = useContext(SharedContext);
  const polled = usePolled<BucketData>('status/bucket', 10_000);
  useTick(1000);
  const bucket = polled.data;
  const due = bucket?.nextBlockDue ? Date.parse(bucket.nextBlockDue) : undefined;
  const sum = (pick: (b: BucketData['blocks'][number]) => number) => (bucket?.blocks ?? []).reduce((n, b) => n + pick(b), 0);
  const size = sum((b) => b.bytes ?? 0);
  return (
    <>
      <div class="page-head">
        <h1>Bucket</h1>
        {bucket && <span class="muted mono">{bucket.location}</span>}
      </div>
      {polled.error?.type === 'not_found' ? (
        <Empty title="No bucket here">
          This process ships nothing to a bucket and reads from none. <span class="mono">--objstore.config-file</span>{' '}
          names one; <span class="mono">all-in-one</span> has one in its data folder by itself.
        </Empty>
      ) : (
        polled.error && <ErrorNotice error={polled.error} />
      )}
      {!bucket && !polled.error && <Spinner label="Loading the bucket" />}
      {bucket?.lastError && (
        <Notice tone="bad" title="The bucket does not answer as it should.">
          <span class="mono">{bucket.lastError}</span>
        </Notice>
      )}
      {bucket && bucket.blocks.length === 0 && (
        <Empty title="No block in the bucket yet">
          {due === undefined
            ? 'This process cuts no blocks itself; it shows what others put there.'
            : due > Date.now()
              ? `The first block is cut and shipped in about ${span(due - Date.now())}, at ${dateTime(due, utc)}. Until then all samples are in the head, and queries see them.`
              : 'The first block is due now: it is being cut and shipped.'}
        </Empty>
      )}
      {bucket && bucket.blocks.length > 0 && (
        <section class="card">
          <div class="tiles">
            <div class="tile">
              <span class="muted">Blocks</span>
              <strong>{count(bucket.blocks.length)}</strong>
              {bucket.partial > 0 && <span class="muted small">and {count(bucket.partial)} not complete</span>}
            </div>
            <div class="tile">
              <span class="muted">Samples</span>
              <strong>{count(sum((b) => b.stats.numSamples))}</strong>
            </div>
            {size > 0 && (
              <div class="tile">
                <span class="muted">Size</span>
                <strong>{bytes(size)}</strong>
              </div>
            )}
            <div class="tile">
              <span class="muted">Next block</span>
              <strong>{due === undefined ? '–' : due > Date.now() ? `in ${span(due - Date.now())}` : 'due now'}</strong>
              {due !== undefined && <span class="muted small">{dateTime(due, utc, false)}</span>}
            </div>
            <div class="tile">
              <span class="muted">Listed</span>
              <strong>{ago(bucket.lastSync)}</strong>
            </div>
          </div>
          <BlockTable blocks={bucket.blocks} />
        </section>
      )}
    </>
  );
}
