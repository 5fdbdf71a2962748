import { defineConfig } from 'vite';

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
      '/api': 'http://localhost:9090',
      '/-': 'http://localhost:9090',
    },
  },
});
