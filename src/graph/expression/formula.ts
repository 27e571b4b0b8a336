/**
 * Formulas: the expression notation as a value of its own.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { type Expr, type FluentGraph, type Hole, isExpr, OpenGraph } from './fluent.ts';
import { compile, type Program } from './notation.ts';

/** What the names of a formula stand for: values, numbers, tensors, or layers to be called. */
export type Bindings = Readonly<Record<string, Hole>>;

/**
 * A formula is a function of its free names, so that one formula serves many graphs, and one with a single name is a layer like
 * any other. It is called with
 *
 * - a value, which its one name stands for;
 * - a record of what its names stand for;
 * - a graph, whose inputs, constants and outputs its names are;
 * - nothing, when its holes say everything.
 */
export interface Formula {
  (arg?: Expr | FluentGraph | Bindings): Expr;
  /** The free names, in the order of their first use. */
  readonly names: readonly string[];
  /** The text, with holes as `${1}`, `${2}` and so on. */
  readonly source: string;
}

/**
 * Reads a formula: operators with the precedence that they have in Python, calls of any operator of the table with its attributes
 * by name, subscripts, assignments.
 *
 * The text is checked here, once; shapes are checked when the formula is called, since they are those of its arguments. Both
 * kinds of error have a caret under the column.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the text is no formula.
 * @example
 * A layer, and a model of it.
 * ```ts
 * const swish = expr`x * sigmoid(${1.5} * x)`;
 * const g = graphOf('m');
 * const x = g.input('x', 'f32', ['n', 3]);
 * g.output('y', swish(x));
 * g.output('z', expr`
 *   h = swish(x[:, 0:2])
 *   softmax(h, axis=-1)
 * `({ x, swish }));
 * g.build().outputs.length; // 2
 * ```
 */
export function expr(parts: TemplateStringsArray, ...holes: readonly Hole[]): Formula {
  return formulaOf(compile(parts), holes);
}

/**
 * Reads a formula from text that may come from anywhere: it is bounded in length and depth, and can do nothing but add nodes to
 * the graph that it is applied to.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the text is no formula.
 */
export function parseFormula(text: string): Formula {
  return formulaOf(compile([text]), []);
}

function formulaOf(program: Program, holes: readonly Hole[]): Formula {
  const { names, source } = program;
  const apply = (arg?: Expr | FluentGraph | Bindings): Expr => {
    if (arg instanceof OpenGraph) return arg.evaluate(program, name => arg.find(name), holes);
    const bindings = isExpr(arg) ? oneName(arg, names) : (arg ?? {});
    const graph = [...Object.values(bindings), ...holes].find(isExpr)?.graph;
    if (!graph) throw new CloisterError('INVALID_ARGUMENT', `${quote(source)}: no argument says which graph it is for`);
    return graph.evaluate(program, name => (Object.hasOwn(bindings, name) ? bindings[name] : undefined), holes);
  };
  return Object.freeze(Object.assign(apply, { names, source }));
}

function oneName(value: Expr, names: readonly string[]): Bindings {
  if (names.length === 1) return { [names[0]!]: value };
  throw new CloisterError(
    'INVALID_ARGUMENT',
    `a formula of the names ${names.join(', ') || '(none)'} is not a function of one value`,
  );
}

function quote(source: string): string {
  return JSON.stringify(source.trim().slice(0, 80));
}
