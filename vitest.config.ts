import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup.ts'],
    setupFiles: ['test/seed.ts'],
    // isolated-vm asks for this flag on Node >= 20.
    execArgv: ['--no-node-snapshot'],
    // Child processes, isolates and native arenas live in forks: a crash there fails one file, not the run.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
