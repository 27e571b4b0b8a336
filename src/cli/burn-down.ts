/**
 * How a budget went down over time: for the terminal, and as an SVG.
 * @module
 */
import { isoTime } from '../base/index.ts';
import type { BudgetReport, BurnPoint } from '../service/index.ts';
import { paint } from './output.ts';

const ROWS = 6;
const EIGHTHS = ' ▁▂▃▄▅▆▇█';

/** The share of the limit that was left, as columns of blocks over time, with a mark below where a spend was refused. */
export function drawBurnDown(points: readonly BurnPoint[], width = 60): string {
  const columns = sample(points, width);
  const lines = Array.from({ length: ROWS }, (_, row) => {
    const floor = ROWS - 1 - row;
    const cells = columns.map(({ left }) => {
      // What is not quite nothing shows as something.
      const eighths = left > 0 ? Math.max(1, Math.round(left * ROWS * 8)) : 0;
      return EIGHTHS[Math.min(8, Math.max(0, eighths - floor * 8))];
    });
    const label = row === 0 ? '100 %' : row === ROWS - 1 ? '  0 %' : '     ';
    return `${paint('dim', `${label} │`)}${paint('cyan', cells.join(''))}`;
  });
  const refusals = columns.map(({ refused }) => (refused ? paint('red', '×') : ' ')).join('');
  const [first, last] = [points[0], points.at(-1)].map(point => isoTime(point?.at ?? 0).slice(0, 16));
  const axis = `${first}${' '.repeat(Math.max(1, width - 32))}${last}`;
  return [
    ...lines,
    paint('dim', `      └${'─'.repeat(width)}`),
    `       ${paint('dim', axis)}`,
    ...(columns.some(({ refused }) => refused) ? [`       ${refusals} ${paint('dim', 'refused')}`] : []),
  ].join('\n');
}

/** For each of `width` equal spans of time, what was left at its end, and whether anything was refused in it. */
function sample(points: readonly BurnPoint[], width: number): { left: number; refused: boolean }[] {
  const start = points[0]?.at ?? 0;
  const span = Math.max(1, (points.at(-1)?.at ?? 0) - start);
  let next = 0;
  let left = 1;
  return Array.from({ length: width }, (_, column) => {
    const end = start + (span * (column + 1)) / width;
    let refused = false;
    for (; next < points.length && points[next]!.at <= end; next++) {
      left = points[next]!.left;
      refused ||= points[next]!.refused;
    }
    return { left, refused };
  });
}

const SIZE = { width: 720, height: 320, left: 56, right: 24, top: 56, bottom: 44 };

/** A burn-down chart as a file that stands alone: what was left as steps over time, refusals as marks on the axis. */
export function burnDownSvg({ scope, burnDown }: BudgetReport): string {
  const { width, height, left, right, top, bottom } = SIZE;
  const start = burnDown[0]?.at ?? 0;
  const span = Math.max(1, (burnDown.at(-1)?.at ?? 0) - start);
  const x = (at: number): number => round(left + ((at - start) / span) * (width - left - right));
  const y = (share: number): number => round(top + (1 - share) * (height - top - bottom));
  let line = '';
  for (const [i, { at, left: share }] of burnDown.entries()) {
    line += i === 0 ? `M${x(at)} ${y(share)}` : `H${x(at)}V${y(share)}`;
  }
  const area = `${line}V${y(0)}H${x(start)}Z`;
  const grid = [0, 0.25, 0.5, 0.75, 1].map(
    share =>
      `<path class="grid" d="M${left} ${y(share)}H${width - right}"/>` +
      `<text x="${left - 8}" y="${y(share) + 4}" text-anchor="end">${share * 100} %</text>`,
  );
  const refusals = burnDown
    .filter(({ refused }) => refused)
    .map(({ at }) => `<path class="refused" d="M${x(at) - 4} ${y(0) - 4}l8 8m0 -8l-8 8"/>`);
  const { spent, limit, remaining } = scope.shown;
  const title = `Budget of ${scope.scope}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(`${title}: ${remaining} left of ${limit}`)}">
<style>
text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:15px;font-weight:600;fill:#1f2328}.grid{stroke:#d0d7de;fill:none}
.line{stroke:#0969da;stroke-width:2;fill:none;stroke-linejoin:round}.area{fill:#0969da;opacity:.12}.refused{stroke:#cf222e;stroke-width:2;fill:none}
@media(prefers-color-scheme:dark){text{fill:#8d96a0}.title{fill:#e6edf3}.grid{stroke:#30363d}.line{stroke:#4493f8}.area{fill:#4493f8}.refused{stroke:#f85149}}
</style>
<text class="title" x="${left}" y="24">${escaped(title)}</text>
<text x="${left}" y="42">${escaped(`${remaining} left of ${limit}; ${spent} spent${refusals.length > 0 ? `; × a spend was refused` : ''}`)}</text>
${grid.join('\n')}
<path class="area" d="${area}"/>
<path class="line" d="${line}"/>
${refusals.join('\n')}
<text x="${left}" y="${height - 16}">${isoTime(start).slice(0, 16)}Z</text>
<text x="${width - right}" y="${height - 16}" text-anchor="end">${isoTime(start + span).slice(0, 16)}Z</text>
</svg>
`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escaped(text: string): string {
  return text.replace(/[&<>"\p{Cc}]/gu, mark => `&#${mark.codePointAt(0)};`);
}
