import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { useLive } from 'poll-sse/react';

function Quotes() {
	const { data, status } = useLive('/api/quotes');
	return <ul title={status.state}>{data?.quotes.map(({ symbol, price }) => <li key={symbol}>{symbol} {price}</li>)}</ul>;
}

createRoot(document.getElementById('root')).render(<StrictMode><Quotes /></StrictMode>);
