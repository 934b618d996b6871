import { createApp } from 'vue/dist/vue.esm-bundler.js';
import { useLive } from 'poll-sse/vue';

createApp({
	setup: () => useLive('/api/quotes'),
	template: `<ul :title="status?.state"><li v-for="quote in data?.quotes" :key="quote.symbol">{{ quote.symbol }} {{ quote.price }}</li></ul>`,
}).mount('#root');
