/**
 * The review page: search, histogram, table, drawer, budgets, and what the log as a whole is worth.
 * @module
 */
import type { JSX } from 'preact';
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { parseFilter } from '../../../sandbox/audit/filter.ts';
import { BudgetView } from './budget-view.tsx';
import { ExportDialog } from './export-dialog.tsx';
import { count, records } from './format.ts';
import { HelpDialog } from './help-dialog.tsx';
import { HistogramChart } from './histogram.tsx';
import { useLoaded, useModel } from './hooks.ts';
import { formatPlace, type Place, readPlace } from './location.ts';
import type { Model } from './model.ts';
import { RecordDrawer } from './record-drawer.tsx';
import { RecordTable, type Rows } from './record-table.tsx';
import { SearchBox } from './search-box.tsx';
import { applyTheme, savedTheme, type Theme } from './theme.ts';
import { TrustBadge, TrustPanel } from './trust-panel.tsx';
import { Visible } from './visible-text.tsx';

const THEMES: readonly Theme[] = ['auto', 'light', 'dark'];
const THEME_SIGNS: Readonly<Record<Theme, string>> = { auto: '◐', light: '☀', dark: '☾' };

/** The whole page. */
export function App({ model }: { readonly model: Model }): JSX.Element {
  useModel(model);
  const [place, setPlace] = usePlace();
  const [theme, setTheme] = useState(savedTheme);
  const [dialog, setDialog] = useState<'trust' | 'export' | 'help' | undefined>();
  const [newestFirst, setNewestFirst] = useState(true);
  const search = useRef<HTMLInputElement>(null);
  const grid = useRef<HTMLDivElement>(null);
  const [selected, setSelected] = useState<number | undefined>(place.record);

  // Times such as since:7d count from when the filter was asked for.
  const now = useMemo(() => Date.now(), [place.q, model.head?.size]);
  const filter = useMemo(() => attempt(() => parseFilter(place.q, now)), [place.q, now]);
  const size = model.head?.size ?? 0;
  const found = useLoaded(
    async signal => (place.q.trim() === '' || 'message' in filter ? undefined : await model.seqs(place.q, now, signal)),
    [place.q, now, size],
  );
  const rows = useMemo((): Rows => {
    const seqs = found.kind === 'there' ? found.value?.filter(seq => seq < size) : undefined;
    return { length: seqs?.length ?? (place.q.trim() === '' ? size : 0), seqs, newestFirst };
  }, [found, size, newestFirst]);

  const ask = useCallback(
    (q: string) => setPlace({ ...readPlace(location.hash), q, view: 'records', record: undefined }),
    [],
  );
  const add = useCallback((term: string) => {
    const { q } = readPlace(location.hash);
    ask(q === '' ? term : `${q} ${term}`);
  }, []);
  const open = useCallback((record: number | undefined) => {
    if (record !== undefined) setSelected(record);
    setPlace({ ...readPlace(location.hash), record });
    if (record === undefined) grid.current?.focus();
  }, []);
  const chooseTheme = (): void => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]!;
    applyTheme(next);
    setTheme(next);
  };

  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
      const typing = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (typing) return;
      const act: Readonly<Record<string, () => unknown>> = {
        Escape: () => readPlace(location.hash).record !== undefined && open(undefined),
        '/': () => search.current?.focus(),
        '?': () => setDialog('help'),
        v: () => void model.checkAll(),
        t: () => setDialog('trust'),
        e: () => setDialog('export'),
        r: () => model.adopt(),
        b: () => setPlace({ ...readPlace(location.hash), view: place.view === 'budgets' ? 'records' : 'budgets' }),
      };
      const action = act[event.key];
      if (action === undefined) return;
      event.preventDefault();
      action();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [place.view]);

  const { head } = model;
  const error = 'message' in filter ? filter.message : found.kind === 'failed' ? found.message : undefined;
  return (
    <div class="page">
      <header class="top">
        <h1>
          Audit log
          {head && (
            <span class="origin">
              <Visible text={head.origin} />
            </span>
          )}
        </h1>
        <nav class="tabs" aria-label="Views">
          {(['records', 'budgets'] as const).map(view => (
            <button
              type="button"
              class="tab"
              aria-current={place.view === view ? 'page' : undefined}
              onClick={() => setPlace({ ...place, view })}
            >
              {view === 'records' ? 'Records' : 'Budgets'}
            </button>
          ))}
        </nav>
        <TrustBadge model={model} onOpen={() => setDialog('trust')} />
        <button
          type="button"
          class="icon"
          title={`Theme: ${theme}`}
          aria-label={`Theme: ${theme}`}
          onClick={chooseTheme}
        >
          {THEME_SIGNS[theme]}
        </button>
        <button type="button" class="icon" title="Keys (?)" aria-label="Keys" onClick={() => setDialog('help')}>
          ?
        </button>
      </header>
      {model.trouble !== undefined && (
        <p class="alert" role="alert">
          {model.trouble}
        </p>
      )}
      {model.failure !== undefined && (
        <p class="alert" role="alert">
          <strong>{model.failure.kind}</strong> <Visible text={model.failure.message} />
        </p>
      )}
      {place.view === 'records' ? (
        <main class="records">
          <SearchBox
            model={model}
            input={search}
            text={place.q}
            error={error}
            onAsk={ask}
            onExport={() => setDialog('export')}
          />
          <HistogramChart
            model={model}
            filter={'message' in filter ? undefined : place.q}
            now={now}
            size={size}
            theme={theme}
            onAsk={ask}
          />
          <p class="found" aria-live="polite">
            {found.kind === 'loading' && place.q.trim() !== '' ? (
              <Searching model={model} />
            ) : place.q.trim() === '' ? (
              records(size)
            ) : (
              `${count(rows.length)} of ${records(size)}`
            )}
            {model.newer !== undefined && model.newer.size > size && (
              <button type="button" class="newer" onClick={() => model.adopt()}>
                {count(model.newer.size - size)} new
              </button>
            )}
          </p>
          <div class={place.record === undefined ? 'split' : 'split with-drawer'}>
            <RecordTable
              model={model}
              grid={grid}
              rows={rows}
              filter={'message' in filter ? undefined : filter}
              selected={selected}
              onSelect={seq => {
                setSelected(seq);
                if (readPlace(location.hash).record !== undefined)
                  setPlace({ ...readPlace(location.hash), record: seq });
              }}
              onOpen={open}
              onSort={() => setNewestFirst(!newestFirst)}
              empty={emptyText(model, place.q, error)}
            />
            {place.record !== undefined && (
              <RecordDrawer model={model} seq={place.record} onAdd={add} onClose={() => open(undefined)} />
            )}
          </div>
        </main>
      ) : (
        <BudgetView
          model={model}
          theme={theme}
          onOpen={record => setPlace({ ...place, view: 'records', record })}
          onAsk={ask}
        />
      )}
      {dialog === 'trust' && (
        <TrustPanel
          model={model}
          onClose={() => setDialog(undefined)}
          onShow={record => {
            setDialog(undefined);
            setSelected(record);
            setPlace({ q: '', view: 'records', record });
          }}
        />
      )}
      {dialog === 'export' && (
        <ExportDialog filter={place.q} now={now} total={rows.length} onClose={() => setDialog(undefined)} />
      )}
      {dialog === 'help' && <HelpDialog onClose={() => setDialog(undefined)} />}
    </div>
  );
}

/** Says how far the query index is while an answer is waited for. */
function Searching({ model }: { readonly model: Model }): JSX.Element {
  const [text, setText] = useState('searching …');
  useEffect(() => {
    const stop = new AbortController();
    const timer = setInterval(async () => {
      const { indexed, total } = await model.indexed(stop.signal).catch(() => ({ indexed: 0, total: 0 }));
      if (total > indexed) setText(`indexing ${count(indexed)} of ${count(total)} …`);
    }, 500);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, []);
  return <>{text}</>;
}

function emptyText(model: Model, q: string, error: string | undefined): string {
  if (error !== undefined) return '';
  if (model.opened === undefined) return model.trouble === undefined ? 'Reading the checkpoint …' : '';
  if (model.head === undefined) return model.failure === undefined ? 'The log has no signed checkpoint yet.' : '';
  return q.trim() === '' ? 'The log is empty.' : 'No record matches this filter.';
}

/** What is shown, kept in the address. */
function usePlace(): [Place, (place: Place) => void] {
  const [place, setPlace] = useState(() => readPlace(location.hash));
  useEffect(() => {
    const onMove = (): void => setPlace(readPlace(location.hash));
    addEventListener('popstate', onMove);
    addEventListener('hashchange', onMove);
    return () => {
      removeEventListener('popstate', onMove);
      removeEventListener('hashchange', onMove);
    };
  }, []);
  const go = useCallback((next: Place) => {
    const before = readPlace(location.hash);
    const address = `${location.pathname}${formatPlace(next)}`;
    // Walking through records leaves no trail for the back button; another question does.
    const same =
      before.q === next.q && before.view === next.view && (before.record === undefined) === (next.record === undefined);
    if (same) history.replaceState(null, '', address);
    else history.pushState(null, '', address);
    setPlace(next);
  }, []);
  return [place, go];
}

function attempt<T extends object>(body: () => T): T | { readonly message: string } {
  try {
    return body();
  } catch (error) {
    return { message: error instanceof Error ? error.message : String(error) };
  }
}
