// The configuration in force.
import { useState } from 'preact/hooks';
import { usePolled } from '../hooks';
import { Empty, ErrorNotice, Spinner } from '../parts/basics';
import { Page } from '../parts/page';

export function ConfigPage() {
  const config = usePolled<{ yaml: string }>('status/config', 0);
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(config.data?.yaml ?? '');
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      // Only allowed on secure pages; the text can be marked by hand.
    }
  };
  if (config.error?.type === 'not_found') {
    return (
      <Page title="Configuration">
        <Empty title="No configuration file">This process is configured by its flags alone.</Empty>
      </Page>
    );
  }
  return (
    <Page title="Configuration" note="as it is in force; secrets are hidden">
      {config.error && <ErrorNotice error={config.error} />}
      {!config.data && !config.error && <Spinner label="Loading the configuration" />}
      {config.data && <section class="card">
      <div class="card-head">
        <span />
        {isSecureContext && (
          <button type="button" class="quiet" onClick={copy}>
            {copied ? 'Copied' : 'Copy'}
          </button>
        )}
      </div>
      <pre class="yaml" tabIndex={0}>
        <Yaml text={config.data.yaml} />
      </pre>
    </section>}
    </Page>
  );
}

/** Keys and comments told apart; no more is needed to read it. */
function Yaml({ text }: { text: string }) {
  return (
    <>
      {text.trimEnd().split('\n').map((line, i) => {
        const match = /^(\s*(?:- )*)([^\s#'"][^:#]*)(:)(\s.*|)$/.exec(line);
        return (
          <span key={i}>
            {match ? (
              <>
                {match[1]}
                <span class="yaml-key">{match[2]}</span>
                {match[3]}
                {match[4]}
              </>
            ) : (
              line
            )}
            {'\n'}
          </span>
        );
      })}
    </>
  );
}
