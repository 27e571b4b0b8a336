/**
 * What a mechanism would cost, or which one would cost no more: questions that touch neither data nor budgets.
 * @module
 */
import { CloisterError } from '../base/index.ts';

/** The answer to one of several questions, or why it has none. */
export type PrivacyAnswer =
  | Readonly<Record<string, unknown>>
  | { readonly error: { readonly code: string; readonly message: string } };

/** Most questions that one call answers. */
const MOST_QUESTIONS = 10_000;

/**
 * Answers one question, or each of a list in its order; one that has no answer does not keep the others from theirs.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a question that stands alone has no answer, or there are over 10,000.
 */
export async function answerPrivacyQuestions(
  questions: unknown,
  options: { readonly tight?: boolean } = {},
): Promise<PrivacyAnswer | readonly PrivacyAnswer[]> {
  const { answerSpec } = await import('../../privacy/dp/index.ts');
  if (!Array.isArray(questions)) return answerSpec(questions, options);
  if (questions.length > MOST_QUESTIONS) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `at most ${MOST_QUESTIONS} questions are answered at once, got ${questions.length}`,
    );
  }
  return questions.map((question: unknown) => {
    try {
      return answerSpec(question, options);
    } catch (error) {
      if (!(error instanceof CloisterError)) throw error;
      return { error: { code: error.code, message: error.message } };
    }
  });
}
