/**
 * Records over time, allowed and refused. Dragging over a span of time, or a click on a bar, asks for that span.
 * @module
 */
import 'uplot/dist/uPlot.min.css';
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { formatTerm, writtenTerms } from '../../../sandbox/audit/filter.ts';
import type { Histogram } from '../../../sandbox/audit/query/log-index.ts';
import { count, minute } from './format.ts';
import { useLoaded } from './hooks.ts';
import type { Model } from './model.ts';
import { colourOf } from './theme.ts';
import { AXIS_FONT, timeAxis, utcDate } from './time-axis.ts';

interface Props {
  readonly model: Model;
  /** Undefined while it cannot be read. */
  readonly filter: string | undefined;
  readonly now: number;
  readonly size: number;
  readonly theme: string;
  onAsk(filter: string): void;
}

const BUCKETS = 120;
const HEIGHT_PX = 96;

/** The chart, and a line that says what is under the pointer. */
export function HistogramChart({ model, filter, now, size, theme, onAsk }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const [pointed, setPointed] = useState<number | undefined>();
  const loaded = useLoaded(
    async signal =>
      filter === undefined || size === 0 ? undefined : await model.histogram(filter, now, BUCKETS, signal),
    [filter, now, size],
  );
  const [kept, setKept] = useState<Histogram | undefined>();
  useEffect(() => {
    if (loaded.kind === 'there') setKept(loaded.value);
  }, [loaded]);

  useEffect(() => {
    const element = box.current;
    if (element === null || kept === undefined || kept.allow.length === 0) return;
    const within = (from: number, to: number): void => onAsk(withSpan(filter ?? '', from, to));
    const chart = draw(element, kept, within, setPointed);
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [kept, theme, filter]);

  const total = kept === undefined ? 0 : sum(kept.allow) + sum(kept.refuse);
  return (
    <section class={loaded.kind === 'loading' ? 'histogram busy' : 'histogram'} aria-label="Records over time">
      <div ref={box} class="chart" role="img" aria-label={kept === undefined ? 'Counting' : summary(kept, total)} />
      <p class="chart-note" aria-hidden="true">
        {loaded.kind === 'failed' ? (
          loaded.message
        ) : kept === undefined ? (
          ' '
        ) : (
          <Legend histogram={kept} pointed={pointed} />
        )}
      </p>
    </section>
  );
}

function Legend({
  histogram,
  pointed,
}: {
  readonly histogram: Histogram;
  readonly pointed: number | undefined;
}): JSX.Element {
  const { from, to, widthMs, allow, refuse } = histogram;
  if (allow.length === 0) return <> </>;
  const all = pointed === undefined;
  const begin = all ? from : from + pointed * widthMs;
  const end = all ? to : Math.min(to, begin + widthMs);
  return (
    <>
      <span>
        {minute(begin)} to {minute(end)} UTC
      </span>
      <span class="key allow">{count(all ? sum(allow) : (allow[pointed] ?? 0))} allowed</span>
      <span class="key refuse">{count(all ? sum(refuse) : (refuse[pointed] ?? 0))} refused</span>
    </>
  );
}

function draw(
  element: HTMLElement,
  histogram: Histogram,
  onSpan: (from: number, to: number) => void,
  onPoint: (bucket: number | undefined) => void,
): uPlot {
  const { from, to, widthMs, allow, refuse } = histogram;
  const times = allow.map((_, i) => from + i * widthMs + widthMs / 2);
  const both = allow.map((value, i) => value + (refuse[i] ?? 0));
  const bars = uPlot.paths.bars!({ size: [0.86, 24], align: 0 });
  const faint = colourOf('--faint');
  const line = colourOf('--line');
  let dragged = false;
  const chart = new uPlot(
    {
      width: element.clientWidth,
      height: HEIGHT_PX,
      ms: 1,
      tzDate: utcDate,
      padding: [6, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      select: { show: true, left: 0, top: 0, width: 0, height: 0 },
      scales: {
        x: { time: true, range: () => [from, Math.max(to, from + 1)] },
        y: { range: (_, __, max) => [0, Math.max(1, max)] },
      },
      axes: [
        timeAxis(),
        {
          stroke: faint,
          grid: { stroke: line, width: 1 },
          ticks: { show: false },
          size: 44,
          space: 32,
          font: AXIS_FONT,
          values: (_, ticks) => ticks.map(tick => (Number.isInteger(tick) ? short(tick) : '')),
        },
      ],
      series: [
        {},
        { fill: colourOf('--allow'), width: 0, paths: bars, points: { show: false } },
        { fill: colourOf('--refuse'), width: 0, paths: bars, points: { show: false } },
      ],
      hooks: {
        setCursor: [plot => onPoint(plot.cursor.idx ?? undefined)],
        setSelect: [
          plot => {
            const { left, width } = plot.select;
            if (width < 4) return;
            dragged = true;
            const begin = plot.posToVal(left, 'x');
            const end = plot.posToVal(left + width, 'x');
            onSpan(Math.floor(begin), Math.ceil(end));
          },
        ],
      },
    },
    [times, both, [...refuse]],
    element,
  );
  chart.over.addEventListener('click', () => {
    const bucket = chart.cursor.idx;
    if (!dragged && typeof bucket === 'number' && (both[bucket] ?? 0) > 0)
      onSpan(Math.floor(from + bucket * widthMs), Math.ceil(from + (bucket + 1) * widthMs));
    dragged = false;
  });
  return chart;
}

/** The filter with another span of time. */
export function withSpan(filter: string, from: number, to: number): string {
  const others = writtenTerms(filter).filter(({ key }) => key !== 'since' && key !== 'until');
  const span = [
    { key: 'since' as const, value: new Date(from).toISOString(), exclude: false },
    { key: 'until' as const, value: new Date(to).toISOString(), exclude: false },
  ];
  return [...others, ...span].map(formatTerm).join(' ');
}

function short(value: number): string {
  return Intl.NumberFormat('en', { notation: 'compact' }).format(value);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function summary({ from, to, refuse }: Histogram, total: number): string {
  if (total === 0) return 'No records';
  return `${count(total)} records from ${minute(from)} to ${minute(to)}, ${count(sum(refuse))} of them refused`;
}
