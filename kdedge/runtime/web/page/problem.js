// Something that went wrong and can be said in a sentence; everything else that is thrown is a bug.
export class Problem extends Error {
  // retry: whether the same picture may work later or elsewhere.
  // key: whether the server wants an API key.
  constructor(message, { retry = false, key = false } = {}) {
    super(message);
    this.name = "Problem";
    this.retry = retry;
    this.key = key;
  }
}

export function sentence(error) {
  if (error instanceof Problem) return error.message;
  return `Something unexpected happened: ${error?.message ?? error}`;
}
