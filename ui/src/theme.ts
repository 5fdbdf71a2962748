// Light, dark, or what the system says.
import { useEffect, useLayoutEffect, useState } from 'preact/hooks';
import { usePreference } from './hooks';

const system = matchMedia('(prefers-color-scheme: dark)');

/** The chosen theme, whether it is dark now, and a setter. */
export function useTheme(): { theme: string; dark: boolean; set: (theme: string) => void } {
  const [theme, set] = usePreference('theme', 'system');
  const [systemDark, setSystemDark] = useState(system.matches);
  useEffect(() => {
    const watch = () => setSystemDark(system.matches);
    system.addEventListener('change', watch);
    return () => system.removeEventListener('change', watch);
  }, []);
  const dark = theme === 'dark' || (theme === 'system' && systemDark);
  // Before anything below draws with the theme's colours.
  useLayoutEffect(() => {
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  }, [dark]);
  return { theme, dark, set };
}
