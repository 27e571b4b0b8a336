export function connect(): () => void {
  return () => {};
}
