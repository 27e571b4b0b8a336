/**
 * The table of records: a window on a list of any length, moved by wheel, scroll bar and keys.
 * @module
 */
import type { JSX, RefObject, TargetedKeyboardEvent } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { matchesFilter, type RecordFilter } from '../../../sandbox/audit/filter.ts';
import type { CheckedRecord } from '../check/log-check.ts';
import { count, time } from './format.ts';
import type { Model } from './model.ts';
import { scrollWindow } from './scroll-window.ts';
import { StateMark } from './state-mark.tsx';
import { Visible } from './visible-text.tsx';

/** Which records, and in which order. */
export interface Rows {
  readonly length: number;
  /** Ascending; all records where it is undefined. */
  readonly seqs: Uint32Array | undefined;
  readonly newestFirst: boolean;
}

interface Props {
  readonly model: Model;
  readonly grid: RefObject<HTMLDivElement | null>;
  readonly rows: Rows;
  /** Undefined while it cannot be read. */
  readonly filter: RecordFilter | undefined;
  readonly selected: number | undefined;
  onSelect(seq: number): void;
  onOpen(seq: number): void;
  onSort(): void;
  /** What to say where there is no row. */
  readonly empty: string;
}

const WIDE_ROW_PX = 32;
const NARROW_ROW_PX = 54;
const NARROW = '(max-width: 720px)';

/** The table. */
export function RecordTable({
  model,
  grid,
  rows,
  filter,
  selected,
  onSelect,
  onOpen,
  onSort,
  empty,
}: Props): JSX.Element {
  const scroller = useRef<HTMLDivElement>(null);
  const head = useRef<HTMLDivElement>(null);
  const [viewPx, setViewPx] = useState(400);
  const [offsetPx, setOffsetPx] = useState(0);
  const offset = useRef(0);
  const narrow = useMedia(NARROW);
  const rowPx = narrow ? NARROW_ROW_PX : WIDE_ROW_PX;
  const view = useMemo(() => scrollWindow(rows.length, rowPx, viewPx), [rows.length, rowPx, viewPx]);
  const at = Math.min(offsetPx, view.maxOffsetPx);
  const { from, to } = view.rowsAt(at);
  const seqs = Array.from({ length: Math.max(0, to - from) }, (_, i) => seqAt(rows, from + i));

  const moveTo = (px: number): void => {
    offset.current = Math.min(Math.max(0, px), view.maxOffsetPx);
    setOffsetPx(offset.current);
    if (scroller.current !== null) scroller.current.scrollTop = offset.current / view.ratio;
  };

  useLayoutEffect(() => {
    const element = scroller.current!;
    const measure = (): void => setViewPx(Math.max(rowPx, element.clientHeight - (head.current?.offsetHeight ?? 0)));
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, [narrow]);
  useEffect(() => {
    const element = scroller.current!;
    // Where a pixel of the bar is more than one of the table, the wheel still moves by its own pixels.
    const onWheel = (event: WheelEvent): void => {
      if (view.ratio === 1 || event.ctrlKey || event.deltaY === 0) return;
      event.preventDefault();
      moveTo(offset.current + event.deltaY * (event.deltaMode === 1 ? rowPx : event.deltaMode === 2 ? viewPx : 1));
    };
    element.addEventListener('wheel', onWheel, { passive: false });
    return () => element.removeEventListener('wheel', onWheel);
  }, [view]);
  useEffect(() => moveTo(0), [rows.seqs, rows.newestFirst]);
  useEffect(() => {
    const timer = setTimeout(() => model.want(seqs), 12);
    return () => clearTimeout(timer);
  }, [from, to, rows, model.opened]);
  // A record that was chosen elsewhere comes into view.
  useEffect(() => {
    const row = selected === undefined ? -1 : rowOf(rows, selected);
    if (row >= 0) moveTo(view.offsetFor(row, offset.current));
  }, [selected, rows, view]);

  const step = (by: number): void => {
    if (rows.length === 0) return;
    const current = selected === undefined ? -1 : rowOf(rows, selected);
    const row = current < 0 ? Math.ceil(at / rowPx) : Math.min(rows.length - 1, Math.max(0, current + by));
    onSelect(seqAt(rows, row));
  };
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLElement>): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(viewPx / rowPx) - 1);
    const act: Readonly<Record<string, () => void>> = {
      j: () => step(1),
      k: () => step(-1),
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      PageDown: () => step(page),
      PageUp: () => step(-page),
      Home: () => rows.length > 0 && onSelect(seqAt(rows, 0)),
      End: () => rows.length > 0 && onSelect(seqAt(rows, rows.length - 1)),
      Enter: () => selected !== undefined && onOpen(selected),
    };
    const action = act[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  };
  // j and k move from anywhere but a field.
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== 'j' && event.key !== 'k') return;
      const { target } = event;
      if (
        target === grid.current ||
        (target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
      )
        return;
      if (document.querySelector('dialog[open]') !== null) return;
      grid.current?.focus({ preventScroll: true });
      step(event.key === 'j' ? 1 : -1);
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  });

  const active = selected !== undefined && seqs.includes(selected) ? `row-${selected}` : undefined;
  return (
    <div
      ref={grid}
      class="grid"
      role="grid"
      aria-label="Records"
      aria-rowcount={rows.length + 1}
      aria-activedescendant={active}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <div
        ref={scroller}
        class="scroller"
        role="rowgroup"
        onScroll={event => {
          const px = event.currentTarget.scrollTop * view.ratio;
          if (Math.abs(px - offset.current) <= view.ratio) return; // what we set ourselves, rounded
          offset.current = px;
          setOffsetPx(px);
        }}
      >
        <div ref={head} class="grid-head row" role="row" aria-rowindex={1}>
          <span role="columnheader" class="c-state" title="Whether it is the record under the signed root">
            <span class="sr">Checked</span>
          </span>
          <span role="columnheader" class="c-seq" aria-sort={rows.newestFirst ? 'descending' : 'ascending'}>
            <button type="button" class="sort" onClick={onSort} title="Turn the order round">
              # {rows.newestFirst ? '↓' : '↑'}
            </button>
          </span>
          <span role="columnheader" class="c-time">
            Time (UTC)
          </span>
          <span role="columnheader" class="c-actor">
            Actor
          </span>
          <span role="columnheader" class="c-action">
            Action
          </span>
          <span role="columnheader" class="c-object">
            Object
          </span>
          <span role="columnheader" class="c-decision">
            Decision
          </span>
          <span role="columnheader" class="c-purpose">
            Purpose
          </span>
        </div>
        {rows.length === 0 && empty !== '' && <p class="empty">{empty}</p>}
        <div role="presentation" class="spacer" style={{ height: `${view.heightPx}px` }}>
          {seqs.map((seq, i) => (
            <Row
              key={seq}
              seq={seq}
              row={model.row(seq)}
              filter={filter}
              index={from + i}
              top={at / view.ratio + (from + i) * rowPx - at}
              selected={seq === selected}
              onOpen={() => onOpen(seq)}
            />
          ))}
        </div>
      </div>
    </div>
  );
}

interface RowProps {
  readonly seq: number;
  readonly row: CheckedRecord | undefined;
  readonly filter: RecordFilter | undefined;
  readonly index: number;
  readonly top: number;
  readonly selected: boolean;
  onOpen(): void;
}

function Row({ seq, row, filter, index, top, selected, onOpen }: RowProps): JSX.Element {
  const { record } = row ?? {};
  const refused = record?.decision.outcome === 'refuse';
  return (
    <div
      id={`row-${seq}`}
      class={`row data${selected ? ' selected' : ''}${row?.state === 'failed' ? ' bad' : ''}`}
      role="row"
      aria-rowindex={index + 2}
      aria-selected={selected}
      style={{ transform: `translateY(${top}px)` }}
      onClick={onOpen}
    >
      <span role="gridcell" class="c-state">
        <StateMark {...shownState(row, filter)} />
      </span>
      <span role="gridcell" class="c-seq">
        {count(seq)}
      </span>
      {record === undefined ? (
        <span role="gridcell" class="c-raw mono">
          {row === undefined ? (
            <span class="faint">…</span>
          ) : (
            <Visible text={row.text.slice(0, 300) || (row.reason ?? '')} />
          )}
        </span>
      ) : (
        <>
          <span role="gridcell" class="c-time">
            {time(record.time)}
          </span>
          <span role="gridcell" class="c-actor">
            <Visible text={record.actor} />
          </span>
          <span role="gridcell" class="c-action">
            <span class={`tag ${toneOf(record.action)}`}>{record.action}</span>
          </span>
          <span role="gridcell" class="c-object">
            <span class="faint">{record.object.kind}</span> <Visible text={shortened(record.object.id)} />
          </span>
          <span role="gridcell" class={refused ? 'c-decision refused' : 'c-decision'}>
            {refused ? <Visible text={record.decision.reason ?? 'refuse'} /> : 'allow'}
          </span>
          <span role="gridcell" class="c-purpose">
            {record.purpose !== undefined && <Visible text={record.purpose} />}
          </span>
        </>
      )}
    </div>
  );
}

/** The state of a row, in which the index has its part too: it may name records that the filter does not ask for. */
function shownState(
  row: CheckedRecord | undefined,
  filter: RecordFilter | undefined,
): Pick<CheckedRecord, 'state' | 'reason'> {
  if (
    row?.state === 'verified' &&
    row.record !== undefined &&
    filter !== undefined &&
    !matchesFilter(row.record, filter)
  )
    return { state: 'failed', reason: 'the index says that it matches the filter, which it does not' };
  return row ?? { state: 'unchecked' };
}

function seqAt({ length, seqs, newestFirst }: Rows, row: number): number {
  const place = newestFirst ? length - 1 - row : row;
  return seqs === undefined ? place : seqs[place]!;
}

/** The row of a record; -1 when it is not among them. */
function rowOf({ length, seqs, newestFirst }: Rows, seq: number): number {
  let place = seq < length ? seq : -1;
  if (seqs !== undefined) {
    let low = 0;
    let high = seqs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (seqs[middle]! < seq) low = middle + 1;
      else high = middle;
    }
    place = seqs[low] === seq ? low : -1;
  }
  return place < 0 ? -1 : newestFirst ? length - 1 - place : place;
}

function shortened(id: string): string {
  return id.replace(/^(sha256:[0-9a-f]{12})[0-9a-f]+$/, '$1…');
}

/** What deserves a second look stands out. */
function toneOf(action: string): string {
  if (action === 'refuse' || action === 'kill' || action === 'fail') return 'warn';
  return action === 'release' || action === 'charge' ? 'strong' : '';
}

function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const onChange = (): void => setMatches(media.matches);
    media.addEventListener('change', onChange);
    return () => media.removeEventListener('change', onChange);
  }, [query]);
  return matches;
}
