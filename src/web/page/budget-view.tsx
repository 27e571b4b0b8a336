/**
 * Budgets: for each scope what is left over time, what was refused, and when it will be spent at the rate of late.
 * @module
 */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { formatTerm } from '../../../sandbox/audit/filter.ts';
import type { BurnDown } from '../../../sandbox/audit/query/log-index.ts';
import { type Projection, project } from './burn-down.ts';
import { amountText, count, inMeasure, type Measure, minute } from './format.ts';
import { useLoaded, useModel } from './hooks.ts';
import type { Model } from './model.ts';
import { StateMark } from './state-mark.tsx';
import { colourOf } from './theme.ts';
import { AXIS_FONT, timeAxis, utcDate } from './time-axis.ts';
import { Visible } from './visible-text.tsx';

interface Props {
  readonly model: Model;
  readonly theme: string;
  onOpen(seq: number): void;
  onAsk(filter: string): void;
}

/** All scopes that the log has charges or refusals of. */
export function BudgetView({ model, theme, onOpen, onAsk }: Props): JSX.Element {
  const size = model.head?.size ?? 0;
  const loaded = useLoaded(signal => model.budgets(signal), [size]);
  // The last charge of each scope is read from the log and checked, so the amount spent is not the index's word alone.
  const lasts = loaded.kind === 'there' ? loaded.value.flatMap(({ charges }) => charges.at(-1)?.seq ?? []) : [];
  useEffect(() => model.want(lasts), [loaded, model.opened]);
  if (loaded.kind === 'loading') return <p class="empty">Adding up …</p>;
  if (loaded.kind === 'failed') return <p class="alert">{loaded.message}</p>;
  const scopes = loaded.value;
  if (scopes.length === 0) return <p class="empty">No budget was spent or refused yet.</p>;
  return (
    <main class="budgets">
      {scopes.map(scope => (
        <ScopeCard key={scope.scope} model={model} scope={scope} theme={theme} onOpen={onOpen} onAsk={onAsk} />
      ))}
    </main>
  );
}

interface CardProps extends Props {
  readonly scope: BurnDown;
}

function ScopeCard({ model, scope, theme, onOpen, onAsk }: CardProps): JSX.Element {
  useModel(model);
  const box = useRef<HTMLDivElement>(null);
  const last = scope.charges.at(-1);
  const row = last === undefined ? undefined : model.row(last.seq);
  // Limit and measure are those of the last charge, which is read from the log and checked.
  const { limit, measure } = row?.record?.budget ?? {};
  const projection = useMemo(() => project(scope, limit), [scope, limit]);
  useEffect(() => {
    const element = box.current;
    if (element === null || (scope.charges.length === 0 && scope.refusals.length === 0)) return;
    const chart = draw(element, scope, { limit, measure, projection, onOpen });
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [scope, limit, theme]);
  // The last charge that is checked must say what the index says.
  const agrees = row?.record?.budget?.after === last?.after && row?.record?.budget?.scope === scope.scope;
  const state = row === undefined ? 'unchecked' : row.state === 'verified' && agrees ? 'verified' : 'failed';
  const share = limit === undefined || limit === 0 || last === undefined ? undefined : Math.min(1, last.after / limit);
  return (
    <section class="card">
      <header>
        <h2>
          <Visible text={scope.scope} />
        </h2>
        <button
          type="button"
          class="link"
          onClick={() => onAsk(formatTerm({ key: 'scope', value: scope.scope, exclude: false }))}
        >
          Records
        </button>
      </header>
      <dl class="figures">
        <Figure name="spent">
          {last === undefined ? (
            amountText(0, measure)
          ) : (
            <button type="button" class="link" onClick={() => onOpen(last.seq)}>
              {amountText(last.after, measure)}
            </button>
          )}
          {last !== undefined && (
            <StateMark
              state={state}
              reason={state === 'failed' ? (row?.reason ?? 'the record says otherwise') : undefined}
            />
          )}
        </Figure>
        {limit !== undefined && <Figure name="limit">{amountText(limit, measure)}</Figure>}
        {limit !== undefined && (
          <Figure name="left">{amountText(Math.max(0, limit - (last?.after ?? 0)), measure)}</Figure>
        )}
        <Figure name="charges">{count(scope.charged)}</Figure>
        <Figure name="refusals">
          <span class={scope.refused > 0 ? 'refused' : ''}>{count(scope.refused)}</span>
        </Figure>
      </dl>
      {share !== undefined && (
        <meter value={share} low={0.7} high={0.9} optimum={0} aria-label="Share of the budget that is spent" />
      )}
      <div ref={box} class="chart tall" role="img" aria-label={`${limit === undefined ? 'Spent' : 'Left'} over time`} />
      <p class="faint">{saidOf(projection, limit, measure, scope)}</p>
    </section>
  );
}

function Figure({
  name,
  children,
}: {
  readonly name: string;
  readonly children: preact.ComponentChildren;
}): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function saidOf(
  projection: Projection | undefined,
  limit: number | undefined,
  measure: Measure | undefined,
  { charges }: BurnDown,
): string {
  if (projection === undefined)
    return charges.length === 0 ? 'Nothing was spent.' : 'Too few charges to say how fast it is spent.';
  const rate = `${amountText(projection.perDay, measure)} a day since ${minute(projection.from)} UTC`;
  if (projection.exhausted === undefined) return `${rate}. The log does not say what the limit is.`;
  const last = charges.at(-1);
  if (limit !== undefined && last !== undefined && last.after >= limit) return `${rate}. It is spent.`;
  const far = projection.exhausted - projection.to > FAR_MS;
  return far
    ? `${rate}: more than ten years at that rate.`
    : `${rate}: spent on ${minute(projection.exhausted)} UTC at that rate.`;
}

const HEIGHT_PX = 180;
const FAR_MS = 10 * 365.25 * 86_400_000;

interface Drawing {
  readonly limit: number | undefined;
  readonly measure: Measure | undefined;
  readonly projection: Projection | undefined;
  onOpen(seq: number): void;
}

function draw(
  element: HTMLElement,
  { charges, refusals }: BurnDown,
  { limit, measure, projection, onOpen }: Drawing,
): uPlot {
  const left = (after: number): number => inMeasure(limit === undefined ? after : Math.max(0, limit - after), measure);
  const first = charges[0];
  const last = charges.at(-1);
  type Point = {
    readonly at: number;
    readonly spent?: number;
    readonly ahead?: number;
    readonly refused?: number;
    readonly seq?: number;
  };
  const points: Point[] = [];
  if (first !== undefined) points.push({ at: first.time, spent: left(first.before), seq: first.seq });
  for (const { time, after, seq } of charges) points.push({ at: time, spent: left(after), seq });
  for (const { time, seq } of refusals) points.push({ at: time, refused: 0, seq });
  if (projection?.exhausted !== undefined && last !== undefined && limit !== undefined && last.after < limit) {
    // Far ahead says little: the line goes on for as long again as was observed.
    const seen = Math.max(last.time - (first?.time ?? last.time), 1);
    const end = Math.min(projection.exhausted, last.time + seen);
    const then = last.after + (projection.perDay / 86_400_000) * (end - last.time);
    points.push({ at: last.time, ahead: left(last.after) }, { at: end, ahead: left(then) });
  }
  points.sort((a, b) => a.at - b.at); // stable: at one time the order of the log
  const faint = colourOf('--faint');
  const line = colourOf('--line');
  const accent = colourOf('--accent');
  const chart = new uPlot(
    {
      width: element.clientWidth,
      height: HEIGHT_PX,
      ms: 1,
      tzDate: utcDate,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true },
        y: { range: (_, __, max) => [0, Math.max(max, inMeasure(limit ?? 0, measure)) * 1.02 || 1] },
      },
      axes: [
        timeAxis(),
        { stroke: faint, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 44, font: AXIS_FONT },
      ],
      series: [
        {},
        {
          stroke: accent,
          fill: colourOf('--accent-soft'),
          width: 2,
          spanGaps: true,
          paths: uPlot.paths.stepped!({ align: 1 }),
          points: { show: false },
        },
        { stroke: accent, width: 1.5, dash: [5, 5], spanGaps: true, points: { show: false } },
        {
          stroke: colourOf('--refuse'),
          fill: colourOf('--refuse'),
          width: 0,
          paths: () => null,
          points: { show: true, size: 6, fill: colourOf('--refuse'), width: 0 },
        },
      ],
    },
    [
      points.map(({ at }) => at),
      points.map(({ spent }) => spent ?? null),
      points.map(({ ahead }) => ahead ?? null),
      points.map(({ refused }) => refused ?? null),
    ],
    element,
  );
  chart.over.addEventListener('click', () => {
    const seq = points[chart.cursor.idx ?? -1]?.seq;
    if (seq !== undefined) onOpen(seq);
  });
  return chart;
}
