export default function Graph() { return <p>…</p>; }
