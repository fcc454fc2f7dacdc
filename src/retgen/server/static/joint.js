// JPR's Eq. 3 over the components that the server sends: no model is asked when λ moves.

/** log softmax of raw scores over the candidates of one question. */
export function logSoftmax(values) {
  const top = Math.max(...values);
  const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
  return values.map((value) => value - top - total);
}

/**
 * (1 − λ)·log p(z|x) + λ·log p(x|z) for every passage.
 * @param passages each with `components`
 * @param first component of p(passage | query)
 * @param second component of p(query | passage)
 * @param weight λ, the second one's share
 */
export function jointScores(passages, first, second, weight) {
  const shares = [first, second].map((name) => logSoftmax(passages.map((passage) => passage.components[name])));
  return passages.map((_, place) => (1 - weight) * shares[0][place] + weight * shares[1][place]);
}

/** Passages by falling score; ties keep the order that they come in, which is to be the retrieved one. */
export function ordered(passages, scores) {
  // Array.prototype.sort is stable.
  return passages.map((_, place) => place).sort((one, other) => scores[other] - scores[one]);
}
