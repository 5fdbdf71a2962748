import { defineConfig } from 'vite';

// Whom `npm run dev` asks.
const server = process.env.EPIMETHEUS_URL ?? 'http://localhost:9090';

// Relative paths: the server fills in <base href>, so that one build works under every prefix.
export default defineConfig({
  base: './',
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      '/api': server,
      '/-': server,
    },
  },
});
