// Finding rows by words.

/** Whether a text has all words of a search; prepared once for many texts. */
export function wordsOf(search: string): (text: string) => boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return () => true;
  return (text) => {
    const low = text.toLowerCase();
    return words.every((word) => low.includes(word));
  };
}

/** A field to search in; `/` leads here. */
export function SearchField(props: { label: string; value: string; onChange: (value: string) => void; autofocus?: boolean }) {
  return (
    <input
      type="search"
      class="search"
      data-shortcut="search"
      placeholder={props.label}
      aria-label={props.label}
      value={props.value}
      spellcheck={false}
      autofocus={props.autofocus}
      onInput={(e) => props.onChange(e.currentTarget.value)}
    />
  );
}
